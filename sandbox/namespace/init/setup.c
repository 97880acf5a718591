/* Building the sandbox: file system, network, identity. The daemon sends one packet that says what to build, as a list of
 * operations; this file only knows how. Every step that fails ends the process with a report. */
#include "wire.h"

#define HAVE_ALL_RIGHTS_BUT ((1UL << CAP_KILL) | (1UL << CAP_SETUID) | (1UL << CAP_SETGID))

static int ctl;
static int root = -1; /* the new root, before and after it is attached */

NORETURN static void fail(const char *what, i64 err)
{
	struct head head = {MSG_FAILED, 0, 0, (u32)-err};
	(void)send_packet(ctl, head, what, length(what), -1); /* if the daemon is gone nobody misses the report */
	quit(74);
}

/* must passes a system call's answer through, unless it is an error. */
static i64 must(i64 ret, const char *what)
{
	if (ret < 0)
		fail(what, ret);
	return ret;
}

/* at opens a path inside the new root for use as a mount target. No component may be a symbolic link and none may leave
 * the root: mounts inside /opt or /var/task lie in trees that the function's owner wrote. */
static int at(const char *path, u64 flags)
{
	struct open_how how = {.flags = flags | O_PATH | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	while (*path == '/')
		path++;
	return (int)sys4(__NR_openat2, root, P(path), P(&how), sizeof how);
}

static const char *relative(const char *path)
{
	while (*path == '/')
		path++;
	return path;
}

static void attributes(int fd, const char *path, u64 set, u64 clear, u32 flags)
{
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = MS_PRIVATE};
	must(sys5(__NR_mount_setattr, fd, P(path), AT_EMPTY_PATH | flags, P(&attr), sizeof attr), path);
}

/* attach moves a detached mount over an existing path of the new root. */
static void attach(int mount, const char *path)
{
	int target = (int)must(at(path, 0), path);
	must(sys5(__NR_move_mount, mount, P(""), target, P(""), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), path);
	must(sys1(__NR_close, target), path);
}

/* mount_new makes a detached file system; key and value are one option, or NULL. */
static int mount_new(const char *type, const char *key, const char *value, const char *mode, u64 attrs)
{
	int fs = (int)must(sys2(__NR_fsopen, P(type), FSOPEN_CLOEXEC), type);
	int mount;
	if (key)
		must(sys5(__NR_fsconfig, fs, FSCONFIG_SET_STRING, P(key), P(value), 0), key);
	if (mode)
		must(sys5(__NR_fsconfig, fs, FSCONFIG_SET_STRING, P("mode"), P(mode), 0), type);
	must(sys5(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, 0, 0, 0), type);
	mount = (int)must(sys3(__NR_fsmount, fs, FSMOUNT_CLOEXEC, P(attrs)), type);
	must(sys1(__NR_close, fs), type);
	return mount;
}

/* make_root mounts the new root, over the empty one if the spawner has left the host. */
static void make_root(const char *where, const char *size)
{
	int target;
	if (left_host)
		where = "/";
	else /* Before the first mount: nothing done here may propagate to the host. */
		must(sys5(__NR_mount, P("none"), P("/"), 0, MS_REC | MS_PRIVATE, 0), "private mounts");
	root = mount_new("tmpfs", "size", size, "0755", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	target = (int)must(sys4(__NR_openat, AT_FDCWD, P(where), O_PATH | O_DIRECTORY | O_CLOEXEC, 0), where);
	must(sys5(__NR_move_mount, root, P(""), target, P(""), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), where);
	must(sys1(__NR_close, target), where);
}

static void make_file(const char *path, const char *content, u64 len)
{
	int fd = (int)must(sys4(__NR_openat, root, P(relative(path)), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), path);
	if (must(sys3(__NR_write, fd, P(content), P(len)), path) != (i64)len)
		fail(path, -EIO);
	must(sys1(__NR_close, fd), path);
}

static void make_dir(const char *path, u32 mode)
{
	i64 ret = sys3(__NR_mkdirat, root, P(relative(path)), mode);
	if (ret < 0 && ret != -EEXIST)
		fail(path, ret);
}

/* received_fd returns a descriptor of the set-up packet. */
static int received_fd(u32 index, const char *what)
{
	if (index >= received.fds)
		fail(what, -EBADF);
	return received.fd[index];
}

/* bind_host shows a host file or tree. devices: a device node of the host, usable; otherwise devices are dead. */
static void bind_host(const char *path, const char *source, int device)
{
	u64 attrs = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID;
	int tree = (int)must(sys3(__NR_open_tree, AT_FDCWD, P(source), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE), source);
	attributes(tree, "", device ? attrs | MOUNT_ATTR_NOEXEC : attrs | MOUNT_ATTR_NODEV, 0, AT_RECURSIVE);
	attach(tree, path);
	must(sys1(__NR_close, tree), path);
}

/* make_device makes a device node, or where that is forbidden (no root, a container) shows the host's. */
static void make_device(const char *path, const char *source, u32 number)
{
	i64 ret = sys4(__NR_mknodat, root, P(relative(path)), S_IFCHR | 0666, number);
	if (ret == -EPERM) {
		make_file(path, "", 0);
		bind_host(path, source, 1);
		return;
	}
	must(ret, path);
}

/* mask hides one file or directory of /proc, as the OCI default does. Not every kernel has every one. */
static void mask(const char *path, int directory)
{
	int target = at(path, 0);
	int cover;
	if (target == -ENOENT)
		return;
	must(target, path);
	cover = directory ? mount_new("tmpfs", "size", "0", "0555", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)
			  : (int)must(sys3(__NR_open_tree, root, P("dev/null"), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), path);
	must(sys5(__NR_move_mount, cover, P(""), target, P(""), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), path);
	must(sys1(__NR_close, cover), path);
	must(sys1(__NR_close, target), path);
}

/* mount_proc shows the sandbox's processes only, and of those only the reader's own (hidepid=2: init has another user id, so
 * it is invisible). The mount the function sees is read-only as a whole, which covers /proc/sys, bus, irq, fs and
 * sysrq-trigger; init keeps a writable one for oom_score_adj. */
static void mount_proc(const char *path)
{
	int fd = mount_new("proc", "hidepid", "2", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	attach(fd, path);
	proc = (int)must(sys3(__NR_open_tree, fd, P(""), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH), path);
	attributes(fd, "", MOUNT_ATTR_RDONLY, 0, 0);
	must(sys1(__NR_close, fd), path);
}

static void operate(const struct op *op, const char *a, const char *b)
{
	int fd;
	switch (op->code) {
	case OP_HOSTNAME:
		must(sys2(__NR_sethostname, P(a), op->alen), "hostname");
		return;
	case OP_ROOT:
		make_root(a, b);
		return;
	case OP_DIR:
		make_dir(a, op->arg);
		return;
	case OP_FILE:
		make_file(a, b, op->blen);
		return;
	case OP_LINK:
		must(sys3(__NR_symlinkat, P(b), root, P(relative(a))), a);
		return;
	case OP_BIND:
		if (op->arg)
			attach(received_fd(op->arg, a), a);
		else
			bind_host(a, b, 0);
		return;
	case OP_DEVICE:
		make_device(a, b, op->arg);
		return;
	case OP_TMPFS:
		fd = mount_new("tmpfs", "size", b, "1777", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | op->arg);
		attach(fd, a);
		must(sys1(__NR_close, fd), a);
		return;
	case OP_SCRATCH:
		attach(received_fd(op->arg, a), a);
		return;
	case OP_PROC:
		mount_proc(a);
		return;
	case OP_MASK_FILE:
	case OP_MASK_DIR:
		mask(a, op->code == OP_MASK_DIR);
		return;
	}
	fail("unknown operation", -EBADMSG);
}

/* build runs the operations in order; every length is checked against the packet's end, and both strings for their NUL. */
static void build(u64 at_byte)
{
	while (at_byte < received.len) {
		struct op op;
		u64 left = received.len - at_byte;
		const char *a, *b;
		if (left < sizeof op)
			fail("operation", -EBADMSG);
		memcpy(&op, packet.body + at_byte, sizeof op);
		left -= sizeof op;
		if ((u64)op.alen + op.blen + 2 > left)
			fail("operation", -EBADMSG);
		a = (const char *)packet.body + at_byte + sizeof op;
		b = a + op.alen + 1;
		if (a[op.alen] || b[op.blen])
			fail("operation", -EBADMSG);
		operate(&op, a, b);
		at_byte += sizeof op + op.alen + op.blen + 2;
	}
}

/* enter makes the new root the root and lets go of the host's file system for good. */
static void enter(void)
{
	attributes(root, "", MOUNT_ATTR_RDONLY, 0, 0);
	must(sys1(__NR_fchdir, root), "new root");
	if (left_host) {
		/* Nothing lies beneath but an empty directory. Besides, pivot_root looks at every process of the machine. */
		must(sys1(__NR_chroot, P(".")), "new root");
		must(sys1(__NR_close, root), "new root");
		return;
	}
	/* pivot_root(".", ".") stacks the old root over the new one at the same place; the unmount takes it away. */
	must(sys2(__NR_pivot_root, P("."), P(".")), "pivot_root (a root on initramfs cannot do this)");
	must(sys2(__NR_umount2, P("."), MNT_DETACH), "unmount the host");
	must(sys1(__NR_chdir, P("/")), "new root");
	must(sys1(__NR_close, root), "new root");
}

void leave_host(void)
{
	int empty;
	must(sys1(__NR_unshare, CLONE_NEWNS), "mount namespace");
	must(sys5(__NR_mount, P("none"), P("/"), 0, MS_REC | MS_PRIVATE, 0), "private mounts");
	empty = mount_new("tmpfs", "size", "4k", "0555", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	if (sys4(__NR_mknodat, empty, P("null"), S_IFCHR | 0666, 1 << 8 | 3) < 0) {
		must(sys1(__NR_close, empty), "empty root");
		return;
	}
	must(sys3(__NR_unlinkat, empty, P("null"), 0), "empty root");
	must(sys5(__NR_move_mount, empty, P(""), AT_FDCWD, P("/proc"), MOVE_MOUNT_F_EMPTY_PATH), "empty root");
	attributes(empty, "", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, 0, 0);
	root = empty;
	enter();
	root = -1;
	left_host = 1;
}

/* network, for a namespace that nobody made ready, brings lo up with 127.0.0.1 (which the kernel adds) and 169.254.100.1/32, where the Runtime API listens. There is
 * no other interface and no route; nobody inside has a capability over the namespace to add one. */
static void network(void)
{
	struct ifreq req;
	int fd = (int)must(sys3(__NR_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "network");

	memset(&req, 0, sizeof req);
	memcpy(req.name, "lo", 3);
	req.flags = IFF_UP | IFF_RUNNING;
	must(sys3(__NR_ioctl, fd, SIOCSIFFLAGS, P(&req)), "lo up");

	memset(&req, 0, sizeof req);
	memcpy(req.name, "lo:1", 5);
	req.addr.family = AF_INET;
	req.addr.address = 0x0164fea9; /* 169.254.100.1, little-endian hosts only, as both architectures here are */
	must(sys3(__NR_ioctl, fd, SIOCSIFADDR, P(&req)), "address of lo");
	req.addr.address = 0xffffffff;
	must(sys3(__NR_ioctl, fd, SIOCSIFNETMASK, P(&req)), "netmask of lo");
	must(sys1(__NR_close, fd), "network");
}

static void limit(u32 resource, u64 soft, u64 hard)
{
	struct rlimit now, want = {soft, hard};
	must(sys4(__NR_prlimit64, 0, resource, 0, P(&now)), "limits");
	/* Raising a hard limit takes a capability the daemon may lack; what it has is then the limit. */
	if (want.hard > now.hard)
		want.hard = now.hard;
	if (want.soft > want.hard)
		want.soft = want.hard;
	must(sys4(__NR_prlimit64, 0, resource, P(&want), 0), "limits");
}

/* limits are those recorded on Lambda, but for core: 0 would still start the host's core handler when core_pattern is a pipe
 * (a program run as host root on what the function crafted); a limit of 1 byte is the kernel's "never" for pipes, and too
 * small for files. The seccomp filter keeps it there. */
static void limits(void)
{
	limit(RLIMIT_NOFILE, 1024, 1024);
	limit(RLIMIT_NPROC, 742, 742);
	limit(RLIMIT_MEMLOCK, 65536, 65536);
	limit(RLIMIT_CORE, 1, 1);
	limit(RLIMIT_STACK, 8388608, ~0UL);
}

static void write_map(int dir, const char *path, const char *text)
{
	int fd = (int)must(sys4(__NR_openat, dir, P(path), O_WRONLY | O_CLOEXEC, 0), path);
	must(sys3(__NR_write, fd, P(text), P(length(text))), path);
	must(sys1(__NR_close, fd), path);
}

static void wait_for(u32 type, const char *what)
{
	must(receive(ctl), what);
	if (packet.head.type != type || received.fds)
		fail(what, -EBADMSG);
}

/* identify enters the sandbox's user namespace. From here on init owns none of the other namespaces: even a captured init
 * could not mount, configure the network or rename the host. */
static void identify(u32 flags)
{
	wait_for(MSG_GO, "cgroups");
	/* After the daemon moved us: the cgroup namespace's root is then our own group, and /proc/self/cgroup shows "/". */
	must(sys1(__NR_unshare, CLONE_NEWCGROUP), "cgroup namespace");
	if (flags & SETUP_ROOTLESS) {
		must(sys1(__NR_unshare, CLONE_NEWUSER), "user namespace");
		write_map(proc, "self/setgroups", "deny");
		write_map(proc, "self/uid_map", "993 0 1");
		write_map(proc, "self/gid_map", "990 0 1");
		return;
	}
	must(sys2(__NR_setgroups, 0, 0), "supplementary groups");
	must(sys1(__NR_unshare, CLONE_NEWUSER), "user namespace");
	must(send_packet(ctl, (struct head){MSG_UNSHARED, 0, 0, 0}, NULL, 0, -1), "user namespace");
	wait_for(MSG_MAPPED, "user map");
	must(sys3(__NR_setresgid, 0, 0, 0), "group id");
	must(sys3(__NR_setresuid, 0, 0, 0), "user id");
}

/* confine takes away all that supervising does not need, and puts init and every process after it under the filter. */
static void confine(const struct sock_fprog *filter)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2] = {{HAVE_ALL_RIGHTS_BUT, HAVE_ALL_RIGHTS_BUT, 0}, {0, 0, 0}};

	/* A keyring of our own: the daemon's session keyring must not be possessed here. Kernels without keys say ENOSYS. */
	i64 key = sys2(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
	if (key < 0 && key != -ENOSYS)
		fail("session keyring", key);
	for (int c = 0; c < 64; c++) {
		i64 ret = sys2(__NR_prctl, PR_CAPBSET_DROP, c);
		if (ret == -EINVAL)
			break; /* past the last capability this kernel knows */
		must(ret, "bounding set");
	}
	must(sys5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "ambient set");
	must(sys2(__NR_capset, P(&header), P(caps)), "capabilities");
	must(sys5(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(sys2(__NR_prctl, PR_SET_DUMPABLE, 0), "dumpable");
	/* Changing credentials cleared it. If the daemon died in between, the control socket is at its end. */
	must(sys2(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL), "parent death signal");
	must(sys3(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, P(filter)), "seccomp");
}

void setup(int control)
{
	static struct sock_filter program[4096]; /* BPF_MAXINSNS */
	struct sock_fprog filter = {0, program};
	u32 flags, len;

	ctl = control;
	must(receive(ctl), "set-up packet");
	flags = packet.head.a;
	len = packet.head.b;
	if (packet.head.type != MSG_SETUP || len > sizeof program || len > received.len || len % sizeof *program)
		fail("set-up packet", -EBADMSG);
	memcpy(program, packet.body, len);
	filter.len = (u16)(len / sizeof *program);
	sys1(__NR_umask, 0);
	if (flags & SETUP_ROOTLESS) {
		/* body: after the filter, two NUL-terminated maps of the outer user namespace */
		const char *uid = (const char *)packet.body + len;
		packet.body[received.len < sizeof packet.body ? received.len : sizeof packet.body - 1] = 0;
		len += (u32)length(uid) + 1;
		const char *gid = (const char *)packet.body + len;
		len += (u32)length(gid) + 1;
		write_map(AT_FDCWD, "/proc/self/setgroups", "deny");
		write_map(AT_FDCWD, "/proc/self/uid_map", uid);
		write_map(AT_FDCWD, "/proc/self/gid_map", gid);
	}
	if (!(flags & SETUP_ROOTLESS)) /* without root the clone made one */
		must(sys2(__NR_setns, received_fd(0, "network namespace"), CLONE_NEWNET), "network namespace");
	build(len);
	close_received();
	enter();
	if (flags & SETUP_ROOTLESS)
		network();
	limits();
	sys1(__NR_umask, 022);
	identify(flags);
	confine(&filter);
	must(send_packet(ctl, (struct head){MSG_READY, 0, 0, 0}, NULL, 0, -1), "ready");
}
