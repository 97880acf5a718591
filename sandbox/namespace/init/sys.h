/* The system calls of the init, without a C library.
 *
 * Why no library: the static glibc init is 800 KB of code nobody here audited, runs IRELATIVE relocations, locale and TLS
 * set-up before main, and costs 0.2 ms per sandbox. What the init needs are thirty system calls and no memory allocation.
 *
 * Every wrapper returns the kernel's answer: a negative number is -errno. Nothing here has state.
 */
#ifndef BERTH_SYS_H
#define BERTH_SYS_H

#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <linux/stat.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define NULL ((void *)0)

#if defined(__x86_64__)
static inline i64 sys6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f)
{
	i64 ret;
	register i64 r10 __asm__("r10") = d;
	register i64 r8 __asm__("r8") = e;
	register i64 r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline i64 sys6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e, i64 f)
{
	register i64 x8 __asm__("x8") = n;
	register i64 x0 __asm__("x0") = a;
	register i64 x1 __asm__("x1") = b;
	register i64 x2 __asm__("x2") = c;
	register i64 x3 __asm__("x3") = d;
	register i64 x4 __asm__("x4") = e;
	register i64 x5 __asm__("x5") = f;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#else
#error "the init knows x86_64 and aarch64"
#endif

/* P turns a pointer into a system call argument. */
#define P(x) ((i64)(x))
#define sys0(n) sys6(n, 0, 0, 0, 0, 0, 0)
#define sys1(n, a) sys6(n, a, 0, 0, 0, 0, 0)
#define sys2(n, a, b) sys6(n, a, b, 0, 0, 0, 0)
#define sys3(n, a, b, c) sys6(n, a, b, c, 0, 0, 0)
#define sys4(n, a, b, c, d) sys6(n, a, b, c, d, 0, 0)
#define sys5(n, a, b, c, d, e) sys6(n, a, b, c, d, e, 0)

/* What user space takes from a C library's headers; layouts are those of 64-bit kernels. */
struct iovec {
	void *base;
	u64 len;
};
struct msghdr {
	void *name;
	u32 namelen;
	struct iovec *iov;
	u64 iovlen;
	void *control;
	u64 controllen;
	u32 flags;
};
struct cmsghdr {
	u64 len;
	u32 level;
	u32 type;
};
struct sockaddr_in {
	u16 family;
	u16 port;    /* network byte order */
	u32 address; /* network byte order */
	u8 zero[8];
};
struct ifreq {
	char name[16];
	union {
		struct sockaddr_in addr;
		u16 flags;
		u8 room[24];
	};
};
struct sigaction {
	void *handler;
	u64 flags;
	void *restorer;
	u64 mask;
};
struct rlimit {
	u64 soft, hard;
};
#define SIG_DFL ((void *)0)
#define SIG_IGN ((void *)1)
#define SIGKILL 9
#define SIGCHLD 17
#define SIG_BLOCK 0
#define SIG_SETMASK 2
#define RLIMIT_STACK 3
#define RLIMIT_CORE 4
#define RLIMIT_NPROC 6
#define RLIMIT_NOFILE 7
#define RLIMIT_MEMLOCK 8
#define IFF_UP 1
#define IFF_RUNNING 0x40
#define SIOCSIFFLAGS 0x8914
#define SIOCSIFADDR 0x8916
#define SIOCSIFNETMASK 0x891c
#define MNT_DETACH 2
#define AF_INET 2
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_CLOEXEC 02000000
#define SOCK_NONBLOCK 04000
#define SOL_SOCKET 1
#define SO_REUSEADDR 2
#define SCM_RIGHTS 1
#define MSG_CTRUNC 0x8
#define MSG_TRUNC 0x20
#define MSG_NOSIGNAL 0x4000
#define MSG_CMSG_CLOEXEC 0x40000000
#define WNOHANG 1

static inline u64 length(const char *s)
{
	u64 n = 0;
	while (s[n])
		n++;
	return n;
}

/* gcc may emit calls to these two even without a library. */
void *memset(void *to, int c, u64 n);
void *memcpy(void *to, const void *from, u64 n);

NORETURN static inline void quit(int code)
{
	for (;;)
		sys1(__NR_exit_group, code);
}

#endif
