/* Process 1 at work: starts processes for the daemon, reaps all, reports ends. Nothing a process of the sandbox does reaches
 * this code, but for SIGCHLD and exit statuses: the control socket is close-on-exec and never passed on, signals from
 * inside do not reach a pid namespace's process 1, and init is not dumpable. */
#include "wire.h"

static struct {
	u32 used;
	u32 id;
	i64 pid;
} children[MAX_CHILDREN];

/* ended reports one reaped child; orphans that were adopted are reaped silently. */
static void ended(int ctl, i64 pid, u32 status)
{
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (children[i].used && children[i].pid == pid) {
			children[i].used = 0;
			if (send_packet(ctl, (struct head){MSG_EXIT, children[i].id, status, 0}, NULL, 0, -1) < 0)
				quit(75); /* the daemon is gone */
			return;
		}
}

/* reap collects what has ended. With wait set it returns when no child is left. */
static void reap(int ctl, int wait)
{
	for (;;) {
		u32 status = 0;
		i64 pid = sys4(__NR_wait4, -1, P(&status), wait ? 0 : WNOHANG, 0);
		if (pid == -EINTR)
			continue;
		if (pid <= 0)
			return; /* 0: none has ended; -ECHILD: there is none */
		ended(ctl, pid, status);
	}
}

/* The steps of a child, for the report that a failed start sends through the status pipe. */
enum { STEP_FDS = 1, STEP_SESSION, STEP_OOM, STEP_CREDENTIALS, STEP_DIR, STEP_EXEC };

struct report {
	u32 step;
	u32 err;
};

NORETURN static void give_up(int status, u32 step, i64 err)
{
	struct report report = {step, (u32)-err};
	(void)sys3(__NR_write, status, P(&report), sizeof report); /* a daemon that is gone cannot be told */
	quit(127);
}

/* place puts the received descriptors where the new program expects them and closes all others. Two rounds, because a
 * descriptor may sit at a number another one needs: first all go above the table, then down to their places. Returns the
 * status pipe, which is close-on-exec. */
static int place(u32 count)
{
	const int above = 512; /* under the limit of 1024 descriptors, over all that init holds */
	int status = -1;
	for (u32 i = 0; i < count; i++) {
		i64 fd = sys3(__NR_fcntl, received.fd[i], F_DUPFD_CLOEXEC, above);
		if (fd < 0)
			quit(126); /* no status pipe yet to report on; the daemon reads its end without a report */
		received.fd[i] = (int)fd;
	}
	status = received.fd[0];
	for (u32 i = 1; i < count; i++) {
		i64 ret = sys3(__NR_dup3, received.fd[i], (i64)i, 0); /* stdout 1, stderr 2, extra 3... */
		if (ret < 0)
			give_up(status, STEP_FDS, ret);
	}
	/* Everything between the last wanted one and the status pipe, and everything above it: the control socket, /proc. */
	i64 ret = sys3(__NR_close_range, count, status - 1, 0);
	if (ret >= 0)
		ret = sys3(__NR_close_range, status + 1, ~0U, 0);
	if (ret < 0)
		give_up(status, STEP_FDS, ret);
	return status;
}

/* prefer_for_oom makes the kernel choose this process, not init and not the daemon, when memory runs out. The file belongs to
 * the process only while it is dumpable; that is safe here, before the user id changes: nobody else has init's. */
static i64 prefer_for_oom(void)
{
	i64 ret = sys2(__NR_prctl, PR_SET_DUMPABLE, 1);
	i64 fd;
	if (ret < 0)
		return ret;
	fd = sys4(__NR_openat, proc, P("self/oom_score_adj"), O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	ret = sys3(__NR_write, fd, P("1000"), 4);
	sys1(__NR_close, fd);
	if (ret < 0)
		return ret;
	return sys2(__NR_prctl, PR_SET_DUMPABLE, 0);
}

static i64 become_user(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
	i64 ret = sys3(__NR_setresgid, 990, 990, 990);
	if (ret >= 0)
		ret = sys3(__NR_setresuid, 993, 993, 993);
	/* Leaving user id 0 has dropped them; without root init has id 993 itself and this is what drops them. */
	if (ret >= 0)
		ret = sys2(__NR_capset, P(&header), P(none));
	return ret;
}

/* argv and envp of the program to be, each with its NULL. */
static char *strings[MAX_STRINGS + 2];

/* parse splits the packet's body into dir, path, argv and envp, all of which stay in the packet. Returns 0 when the body is
 * not exactly that many strings. */
static int parse(u32 argc, u32 envc, const char **dir, const char **path, char **strings)
{
	u64 at = 0;
	if (argc > MAX_STRINGS || envc > MAX_STRINGS || argc + envc > MAX_STRINGS || received.len == 0)
		return 0;
	if (packet.body[received.len - 1])
		return 0; /* the last string has no end */
	for (u32 i = 0; i < argc + envc + 2; i++) {
		char *s = (char *)packet.body + at;
		if (at >= received.len)
			return 0;
		at += length(s) + 1;
		if (i == 0)
			*dir = s;
		else if (i == 1)
			*path = s;
		else
			strings[i - 2 + (i - 2 >= argc)] = s; /* a hole after argv for its NULL */
	}
	strings[argc] = NULL;
	strings[argc + 1 + envc] = NULL;
	return at == received.len;
}

/* settle makes a child the function's user, in a session of its own. */
static void settle(int status)
{
	u64 no_signals = 0;
	i64 ret = sys0(__NR_setsid);
	if (ret >= 0)
		ret = sys4(__NR_rt_sigprocmask, SIG_SETMASK, P(&no_signals), 0, sizeof no_signals);
	if (ret < 0)
		give_up(status, STEP_SESSION, ret);
	if ((ret = become_user()) < 0)
		give_up(status, STEP_CREDENTIALS, ret);
}

NORETURN static void become_program(int status, const char *dir, const char *path, char **argv, char **envp)
{
	i64 ret = sys1(__NR_chdir, P(dir));
	if (ret < 0)
		give_up(status, STEP_DIR, ret);
	ret = sys3(__NR_execve, P(path), P(argv), P(envp));
	give_up(status, STEP_EXEC, ret);
}

NORETURN static void run(u32 count, const char *dir, const char *path, char **argv, char **envp)
{
	i64 ret = prefer_for_oom(); /* before place(), which closes /proc */
	int status = place(count);
	if (ret < 0)
		give_up(status, STEP_OOM, ret);
	settle(status);
	become_program(status, dir, path, argv, envp);
}

/* await_program is the child of MSG_PREPARE: all that run() does but for what depends on the program, which the daemon sends over the
 * channel when it is called for. So a call waits for the execve only, not for a fork, new credentials and their page faults.
 * The channel closes with the execve, or carries the report; when the daemon closes it, there is no program to come. */
NORETURN static void await_program(int channel)
{
	const char *dir, *path;
	i64 ret = prefer_for_oom();
	int status = 3;
	if (sys3(__NR_dup3, channel, status, O_CLOEXEC) < 0 || sys3(__NR_close_range, status + 1, ~0U, 0) < 0)
		quit(126); /* closes the channel without a program */
	if (ret < 0)
		give_up(status, STEP_OOM, ret);
	settle(status);
	if (receive(status) < 0)
		quit(0);
	if (packet.head.type != MSG_EXEC || received.fds < 2 || received.fds == MAX_FDS || !parse(packet.head.a, packet.head.b, &dir, &path, strings))
		give_up(status, STEP_EXEC, -EBADMSG);
	for (u32 i = received.fds++; i > 0; i--) /* for place(), as run() has them */
		received.fd[i] = received.fd[i - 1];
	received.fd[0] = status;
	status = place(received.fds);
	become_program(status, dir, path, strings, strings + packet.head.a + 1);
}

/* prepare forks a child that waits for its program. Nobody waits for an answer: should there be no child, the channel is closed. */
static void prepare(void)
{
	int slot = 0;
	while (slot < MAX_CHILDREN && children[slot].used)
		slot++;
	if (slot < MAX_CHILDREN && received.fds == 1) {
		i64 pid = sys5(__NR_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			await_program(received.fd[0]);
		if (pid > 0) {
			children[slot].used = 1;
			children[slot].id = packet.head.id;
			children[slot].pid = pid;
		}
	}
	close_received();
}

static void start(int ctl)
{
	struct head request = packet.head;
	struct head answer = {MSG_STARTED, request.id, 0, 0};
	const char *dir = NULL, *path = NULL;
	int slot = 0;
	i64 pid;

	while (slot < MAX_CHILDREN && children[slot].used)
		slot++;
	if (slot == MAX_CHILDREN) {
		answer.b = EAGAIN;
	} else if (received.fds < 3 || !parse(request.a, request.b, &dir, &path, strings)) {
		answer.b = EBADMSG;
	} else {
		/* A plain fork: init has 30 pages. Sharing memory (vfork) would let the half-made process, which has the function's
		 * user id for a moment, stop init by being stopped. */
		pid = sys5(__NR_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0)
			run(received.fds, dir, path, strings, strings + request.a + 1);
		if (pid < 0) {
			answer.b = (u32)-pid;
		} else {
			children[slot].used = 1;
			children[slot].id = request.id;
			children[slot].pid = pid;
			answer.a = (u32)pid;
		}
	}
	close_received();
	if (send_packet(ctl, answer, NULL, 0, -1) < 0)
		quit(75);
}

/* signal_child signals the process group of a child that has not been reaped, so its number cannot be another's. */
static void signal_child(u32 id, u32 sig)
{
	for (int i = 0; i < MAX_CHILDREN; i++)
		if (children[i].used && children[i].id == id) {
			/* Between fork and setsid there is no such group yet; the process itself then takes the signal. */
			if (sys2(__NR_kill, -children[i].pid, sig) == -ESRCH)
				(void)sys2(__NR_kill, children[i].pid, sig);
		}
}

/* signal_all signals every process but init: kill(-1) spares process 1. One call is enough to end a fork bomb, since a fork
 * in the kernel fails while its caller has SIGKILL pending. */
static i64 signal_all(u32 sig)
{
	i64 ret = sys2(__NR_kill, -1, sig);
	return ret == -ESRCH ? 0 : ret;
}

static int listener(u32 address, u32 port, int *fd)
{
	struct sockaddr_in addr = {AF_INET, (u16)port, address, {0}};
	int on = 1;
	i64 ret = sys3(__NR_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (ret < 0)
		return (int)ret;
	*fd = (int)ret;
	ret = sys5(__NR_setsockopt, *fd, SOL_SOCKET, SO_REUSEADDR, P(&on), sizeof on);
	if (ret >= 0)
		ret = sys3(__NR_bind, *fd, P(&addr), sizeof addr);
	if (ret >= 0)
		ret = sys2(__NR_listen, *fd, 128);
	if (ret < 0) {
		sys1(__NR_close, *fd);
		*fd = -1;
	}
	return (int)ret;
}

static void serve(int ctl)
{
	struct head request;
	struct head answer = {MSG_DONE, 0, 0, 0};
	i64 ret = 0;
	int fd = -1;

	if (receive(ctl) < 0)
		quit(0); /* the daemon is gone; the kernel kills the rest of the namespace with us */
	request = packet.head;
	answer.id = request.id;
	switch (request.type) {
	case MSG_EXEC:
		start(ctl);
		return;
	case MSG_PREPARE:
		prepare();
		return;
	case MSG_SIGNAL:
		signal_child(request.id, request.a);
		return;
	case MSG_SIGNAL_ALL:
		ret = signal_all(request.a);
		break;
	case MSG_KILL:
		ret = signal_all(SIGKILL);
		if (ret >= 0)
			reap(ctl, 1);
		break;
	case MSG_LISTEN:
		answer.type = MSG_LISTENING;
		ret = listener(request.a, request.b, &fd);
		break;
	case MSG_SOCKET: /* the daemon connects it, and waits for that: a socket stays in the namespace that it was made in */
		answer.type = MSG_LISTENING;
		ret = sys3(__NR_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (ret >= 0)
			fd = (int)ret;
		break;
	default:
		quit(76);
	}
	close_received();
	answer.b = ret < 0 ? (u32)-ret : 0;
	if (send_packet(ctl, answer, NULL, 0, fd) < 0)
		quit(75);
	if (fd >= 0)
		sys1(__NR_close, fd);
}

NORETURN void supervise(int ctl)
{
	u64 mask = 1UL << (SIGCHLD - 1);
	struct pollfd poll[2] = {{.fd = ctl, .events = POLLIN}, {.events = POLLIN}};
	i64 ret = sys4(__NR_rt_sigprocmask, SIG_BLOCK, P(&mask), 0, sizeof mask);
	if (ret < 0)
		quit(77);
	ret = sys4(__NR_signalfd4, -1, P(&mask), sizeof mask, O_CLOEXEC | O_NONBLOCK);
	if (ret < 0)
		quit(77);
	poll[1].fd = (int)ret;
	for (;;) {
		ret = sys5(__NR_ppoll, P(poll), 2, 0, 0, 0);
		if (ret == -EINTR)
			continue;
		if (ret < 0)
			quit(77);
		if (poll[1].revents) {
			u8 info[128]; /* struct signalfd_siginfo; only that it was there matters */
			(void)sys3(__NR_read, poll[1].fd, P(info), sizeof info);
			reap(ctl, 0);
		}
		if (poll[0].revents)
			serve(ctl);
	}
}
