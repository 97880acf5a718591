/* berth-init: process 1 of every sandbox, and the small process that starts them.
 *
 * The daemon runs this program once, as the spawner: descriptor 3 is its end of a SOCK_SEQPACKET pair. For each sandbox
 * the spawner clones itself into new namespaces; the clone sets the sandbox up and supervises it. Why a spawner: forking
 * the daemon copies page tables (10 ms at 256 MiB) or, with vfork, holds a Go processor for a millisecond; and the kernel's
 * parent-death signal follows the death of the parent *thread*, which Go does not promise to keep. A process with one
 * thread and 60 KB of memory has neither trouble, and its clones need no exec.
 *
 * Chain of death: the daemon dies -> the spawner reads end-of-file and exits -> every init gets SIGKILL (PR_SET_PDEATHSIG)
 * -> the kernel kills all of its pid namespace. SIGKILL also reaches a frozen init (cgroup v2). Independently each init
 * ends when its own control socket closes.
 */
#include "wire.h"

struct packet packet;
struct received received;
int proc = -1;
int left_host = 0;

void *memset(void *to, int c, u64 n)
{
	volatile u8 *p = to; /* volatile: or gcc turns the loop into a call of memset */
	while (n--)
		*p++ = (u8)c;
	return to;
}

void *memcpy(void *to, const void *from, u64 n)
{
	volatile u8 *p = to;
	const u8 *q = from;
	while (n--)
		*p++ = *q++;
	return to;
}

/* The control buffer has room for exactly MAX_FDS descriptors; the kernel discards (and closes) what does not fit and
 * says so with MSG_CTRUNC. */
union control {
	struct cmsghdr head;
	u8 room[sizeof(struct cmsghdr) + MAX_FDS * sizeof(int)];
};

int receive(int fd)
{
	union control control;
	struct iovec iov = {&packet, sizeof packet};
	struct msghdr msg = {.iov = &iov, .iovlen = 1, .control = &control, .controllen = sizeof control};
	i64 n;

	received.len = 0;
	received.fds = 0;
	do
		n = sys3(__NR_recvmsg, fd, P(&msg), MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	if (n < 0)
		return (int)n;
	if (n == 0)
		return -ECONNRESET;
	if (msg.controllen >= sizeof(struct cmsghdr)) {
		struct cmsghdr *c = &control.head;
		if (c->level != SOL_SOCKET || c->type != SCM_RIGHTS || c->len < sizeof *c || c->len > sizeof control)
			return -EBADMSG;
		received.fds = (u32)((c->len - sizeof *c) / sizeof(int));
		memcpy(received.fd, control.room + sizeof *c, received.fds * sizeof(int));
	}
	if (n < (i64)sizeof(struct head) || (msg.flags & (MSG_TRUNC | MSG_CTRUNC))) {
		close_received();
		return -EMSGSIZE;
	}
	received.len = (u64)n - sizeof(struct head);
	return 0;
}

void close_received(void)
{
	for (u32 i = 0; i < received.fds; i++)
		if (received.fd[i] >= 0)
			sys1(__NR_close, received.fd[i]); /* nothing can be done about an error, and the number is free either way */
	received.fds = 0;
}

int send_packet(int fd, struct head head, const void *body, u64 len, int pass)
{
	union {
		struct cmsghdr head;
		u8 room[sizeof(struct cmsghdr) + 8];
	} control = {.head = {sizeof(struct cmsghdr) + sizeof(int), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov[2] = {{&head, sizeof head}, {(void *)body, len}};
	struct msghdr msg = {.iov = iov, .iovlen = len ? 2 : 1};
	i64 n;

	if (pass >= 0) {
		memcpy(control.room + sizeof(struct cmsghdr), &pass, sizeof pass);
		msg.control = &control;
		msg.controllen = sizeof control;
	}
	do
		n = sys3(__NR_sendmsg, fd, P(&msg), MSG_NOSIGNAL);
	while (n == -EINTR);
	return n < 0 ? (int)n : 0;
}

NORETURN UNUSED void begin(void)
{
	/* Descriptors 0-2 are /dev/null, 3 is the daemon; should anything else have come along, it ends here. */
	if (sys3(__NR_close_range, 4, ~0U, 0) < 0)
		quit(70);
	spawner(3);
}

/* The stack pointer is aligned to 16 bytes at entry; a call keeps the ABI's promise to begin(). */
#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tcall begin\n\thlt\n");
#else
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tbl begin\n\tbrk #0\n");
#endif
