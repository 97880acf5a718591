/* The messages between daemon, spawner and init: one SOCK_SEQPACKET packet each, native byte order (both ends are the same
 * machine). The Go side is wire.go; a test compares the constants. A packet longer than MAX_PACKET, or one that does not
 * parse, ends the receiver: the daemon is trusted, so a malformed packet is a bug, and going on would be worse. */
#ifndef BERTH_WIRE_H
#define BERTH_WIRE_H

#include "sys.h"

#define MAX_PACKET (160 * 1024)
#define MAX_FDS 96     /* descriptors in one packet */
#define MAX_STRINGS 8192 /* argv and envp together */
#define MAX_CHILDREN 64 /* processes of Exec that run at once */

struct head {
	u32 type;
	u32 id; /* chosen by the daemon, comes back in the answer */
	u32 a;
	u32 b;
};

enum {
	/* daemon -> spawner, and back */
	MSG_SPAWN = 1, /* a = SPAWN_ flags; fds: control socket[, cgroup v2 directory] */
	MSG_SPAWNED,   /* a = pid, b = errno; fds: pidfd */

	/* daemon -> init */
	MSG_SETUP = 10, /* a = SETUP_ flags, b = length of the seccomp program; then the program, then operations;
	                * fds, as root: network namespace, then those that operations name by their index */
	MSG_GO,         /* cgroups are in place */
	MSG_MAPPED,     /* uid_map and gid_map are written */
	MSG_EXEC,       /* a = argc, b = envc; dir, path, argv, envp as strings; fds: status pipe, stdout, stderr, extra... */
	MSG_SIGNAL,     /* a = signal, to the process group of child id */
	MSG_SIGNAL_ALL, /* a = signal, to everything but init; answered with MSG_DONE */
	MSG_KILL,       /* SIGKILL to everything but init, answered with MSG_DONE when all are reaped */
	MSG_LISTEN,     /* a = IPv4 address, b = port, network byte order */
	MSG_SOCKET,     /* a TCP socket that is not connected yet, answered with MSG_LISTENING */
	MSG_PREPARE,    /* child id = id waits for its program; fds: channel, over which MSG_EXEC comes without a status pipe; no answer but MSG_EXIT */

	/* init -> daemon */
	MSG_UNSHARED = 30, /* waits for MSG_MAPPED */
	MSG_READY,
	MSG_FAILED,  /* a = step, b = errno, text = what */
	MSG_EXIT,    /* id = child, a = wait status */
	MSG_STARTED, /* id = child, a = pid inside, b = errno */
	MSG_DONE,    /* b = errno */
	MSG_LISTENING /* b = errno; fds: listener, or socket */
};

enum { SPAWN_ROOTLESS = 1, SPAWN_CGROUP = 2 };
enum { SETUP_ROOTLESS = 1 };

/* One operation of the set-up program: this head, then a and b, each with a terminating NUL that the lengths leave out. */
struct op {
	u32 code;
	u32 arg;
	u32 alen;
	u32 blen;
};

enum {
	OP_HOSTNAME = 1, /* a = name */
	OP_ROOT,         /* a = existing host directory to attach the new root to, b = tmpfs size= */
	OP_DIR,          /* a = path, arg = mode */
	OP_FILE,         /* a = path, b = content */
	OP_LINK,         /* a = path, b = target */
	OP_BIND,         /* a = path; arg = index of a descriptor, a mount, or 0 and b = host source; read-only, nosuid, nodev, with all mounts beneath */
	OP_DEVICE,       /* a = path, arg = device number, b = host device node to bind where mknod is forbidden */
	OP_TMPFS,        /* a = path, b = size= */
	OP_SCRATCH,      /* a = path, arg = index of a descriptor, a mount */
	OP_PROC,         /* a = path */
	OP_MASK_FILE,    /* a = path; hidden by /dev/null, skipped if absent */
	OP_MASK_DIR      /* a = path; hidden by an empty directory, skipped if absent */
};

struct packet {
	struct head head;
	u8 body[MAX_PACKET - sizeof(struct head)];
};

/* received is the last packet; its descriptors are close-on-exec. */
struct received {
	u64 len; /* of the body */
	u32 fds;
	int fd[MAX_FDS];
};

/* The one buffer of the process: the init handles one packet at a time and allocates nothing. */
extern struct packet packet;
extern struct received received;

/* receive waits for the next packet on fd. Returns 0, or -errno; -ECONNRESET when the peer is gone. */
int receive(int fd);
/* send_packet sends a head, body bytes and at most one descriptor (or -1). */
int send_packet(int fd, struct head head, const void *body, u64 len, int pass);
void close_received(void);

/* setup builds the sandbox around this process, or reports MSG_FAILED and does not return. */
void setup(int ctl);
/* supervise serves the daemon until it is gone; does not return. */
NORETURN void supervise(int ctl);
/* spawner serves spawn requests until the daemon is gone; does not return. */
NORETURN void spawner(int daemon);

/* proc is a descriptor of a writable /proc that no process but init holds (the one at /proc is read-only). */
extern int proc;

/* left_host is set in a spawner, and all inits of it, that has left the host's file system for an empty one. */
extern int left_host;
/* leave_host does so, if it may make device nodes: else the host's have to be shown. */
void leave_host(void);

#endif
