/* The spawner: clones one init per request. It is the only part that stays real root; it reads nothing but the daemon's
 * packets, and no process of a sandbox can reach it: it lives in the host's namespaces and shares no descriptor. */
#include "wire.h"

/* become_init turns the fresh clone, alone in its new namespaces, into the sandbox's process 1. */
NORETURN static void become_init(int ctl)
{
	struct sigaction fall_back = {SIG_DFL, 0, NULL, 0};

	/* First of all: do not outlive the spawner. If it died before this line, the daemon's end of ctl is what tells. */
	if (sys2(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL) < 0)
		quit(71);
	/* The spawner ignores SIGCHLD so that the kernel reaps inits for it; init wants to see its children end. */
	if (sys4(__NR_rt_sigaction, SIGCHLD, P(&fall_back), 0, sizeof fall_back.mask) < 0)
		quit(71);
	/* Keep 0-2 (/dev/null) and ctl, as 3; the spawner's socket and pidfds end here. */
	if (ctl != 3 && sys3(__NR_dup3, ctl, 3, O_CLOEXEC) < 0)
		quit(71);
	if (sys3(__NR_close_range, 4, ~0U, 0) < 0)
		quit(71);
	setup(3);
	supervise(3);
}

static void spawn(int daemon, struct head request)
{
	struct head answer = {MSG_SPAWNED, request.id, 0, 0};
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_PIDFD | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS,
		.pidfd = (u64)P(&pidfd),
		.exit_signal = SIGCHLD,
	};
	u32 want = request.a & SPAWN_CGROUP ? 2 : 1;
	i64 pid;

	if (received.fds != want) {
		answer.b = EBADF;
	} else {
		if (request.a & SPAWN_CGROUP) {
			args.flags |= CLONE_INTO_CGROUP;
			args.cgroup = (u64)received.fd[1];
		}
		/* As root the namespaces belong to the host's user namespace and init gives its power over them up by entering
		 * a user namespace last; without root a first user namespace has to grant that power. */
		if (request.a & SPAWN_ROOTLESS)
			args.flags |= CLONE_NEWUSER | CLONE_NEWNET;
		pid = sys2(__NR_clone3, P(&args), sizeof args);
		if (pid == 0)
			become_init(received.fd[0]);
		if (pid < 0)
			answer.b = (u32)-pid;
		else
			answer.a = (u32)pid;
	}
	close_received();
	if (send_packet(daemon, answer, NULL, 0, pidfd) < 0)
		quit(72);
	if (pidfd >= 0)
		sys1(__NR_close, pidfd);
}

NORETURN void spawner(int daemon)
{
	struct sigaction ignore = {SIG_IGN, 0, NULL, 0}; /* the kernel reaps children; the daemon watches their pidfds */

	if (sys4(__NR_rt_sigaction, SIGCHLD, P(&ignore), 0, sizeof ignore.mask) < 0)
		quit(72);
	if (sys0(__NR_geteuid) == 0)
		leave_host();
	for (;;) {
		if (receive(daemon) < 0)
			quit(0); /* the daemon is gone, or talks nonsense: all inits die with us */
		if (packet.head.type != MSG_SPAWN)
			quit(73);
		spawn(daemon, packet.head);
	}
}
