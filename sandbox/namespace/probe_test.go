//go:build linux

package namespace

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The probe runs inside a sandbox, as a function's hostile process would, and tries each way out that is known. A way that
// does not fail as it should is reported. Started by: program berth-probe NAME ARGS…

func probeMain() {
	if len(os.Args) < 3 || os.Args[1] != "berth-probe" {
		return
	}
	probe, ok := probes[os.Args[2]]
	if !ok {
		fmt.Println("unknown probe", os.Args[2])
		os.Exit(2)
	}
	runtime.LockOSThread()
	for _, bad := range probe(os.Args[3:]) {
		fmt.Println(bad)
	}
	syscall.Exit(0) // os.Exit under the race detector takes a second
}

type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

var probes = map[string]func([]string) findings{
	"identity": probeIdentity, "syscalls": probeSyscalls, "files": probeFiles, "processes": probeProcesses,
	"network": probeNetwork, "writes": probeWrites, "setuid": probeSetuid, "init": probeInit, "bomb": probeBomb,
	"limits": probeLimits, "descriptors": probeDescriptors, "usenet": probeUseNet,
}

func status(key string) string {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == key {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

func probeIdentity([]string) (f findings) {
	if os.Getuid() != 993 || os.Getgid() != 990 || os.Geteuid() != 993 {
		f.add("runs as %d:%d", os.Getuid(), os.Getgid())
	}
	if groups, err := os.Getgroups(); err != nil || len(slices.DeleteFunc(groups, func(g int) bool { return g == 990 })) > 0 {
		f.add("supplementary groups %v, %v", groups, err)
	}
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if got := status(set); got != "0000000000000000" {
			f.add("%s is %s", set, got)
		}
	}
	for key, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
		if got := status(key); got != want {
			f.add("%s is %s", key, got)
		}
	}
	if adj, err := os.ReadFile("/proc/self/oom_score_adj"); strings.TrimSpace(string(adj)) != "1000" {
		f.add("oom_score_adj is %s, %v", adj, err)
	}
	if sid, err := unix.Getsid(0); err != nil || sid != os.Getpid() {
		f.add("session %d, %v", sid, err)
	}
	if groups, err := os.ReadFile("/proc/self/cgroup"); err == nil && strings.Contains(string(groups), "berth-") {
		f.add("the cgroup's host path shows: %s", groups)
	}
	return f
}

// probeSyscalls calls what must be refused, with arguments that would succeed for a process that had the right.
func probeSyscalls([]string) (f findings) {
	p := func(s string) uintptr { b, _ := unix.BytePtrFromString(s); return uintptr(unsafe.Pointer(b)) }
	var buf [4096]byte
	at := uintptr(unsafe.Pointer(&buf))
	for _, c := range []struct {
		name string
		nr   uintptr
		args [5]uintptr
		want syscall.Errno
	}{
		{"mount tmpfs", unix.SYS_MOUNT, [5]uintptr{p("none"), p("/tmp"), p("tmpfs")}, unix.EPERM},
		{"remount writable", unix.SYS_MOUNT, [5]uintptr{p("none"), p("/usr"), 0, unix.MS_REMOUNT | unix.MS_BIND}, unix.EPERM},
		{"umount", unix.SYS_UMOUNT2, [5]uintptr{p("/proc"), unix.MNT_DETACH}, unix.EPERM},
		{"open_tree", unix.SYS_OPEN_TREE, [5]uintptr{^uintptr(99), p("/"), unix.OPEN_TREE_CLONE}, unix.EPERM},
		{"fsopen", unix.SYS_FSOPEN, [5]uintptr{p("tmpfs")}, unix.EPERM},
		{"mount_setattr", unix.SYS_MOUNT_SETATTR, [5]uintptr{^uintptr(99), p("/usr"), 0, at, 32}, unix.EPERM},
		{"pivot_root", unix.SYS_PIVOT_ROOT, [5]uintptr{p("/tmp"), p("/tmp")}, unix.EPERM},
		{"chroot", unix.SYS_CHROOT, [5]uintptr{p("/tmp")}, unix.EPERM},
		{"unshare user", unix.SYS_UNSHARE, [5]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
		{"setns", unix.SYS_SETNS, [5]uintptr{0, 0}, unix.EPERM},
		{"clone into a user namespace", unix.SYS_CLONE, [5]uintptr{unix.CLONE_NEWUSER | uintptr(unix.SIGCHLD)}, unix.EPERM},
		{"clone3", unix.SYS_CLONE3, [5]uintptr{at, 88}, unix.ENOSYS},
		{"ptrace", unix.SYS_PTRACE, [5]uintptr{unix.PTRACE_TRACEME}, unix.EPERM},
		{"ptrace init", unix.SYS_PTRACE, [5]uintptr{unix.PTRACE_ATTACH, 1}, unix.EPERM},
		{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [5]uintptr{1, at, 1, at, 1}, unix.EPERM},
		{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [5]uintptr{0, 0}, unix.EPERM},
		{"bpf", unix.SYS_BPF, [5]uintptr{0, at, 64}, unix.EPERM},
		{"keyctl", unix.SYS_KEYCTL, [5]uintptr{0, ^uintptr(2)}, unix.EPERM},
		{"add_key", unix.SYS_ADD_KEY, [5]uintptr{p("user"), p("x"), at, 1, ^uintptr(2)}, unix.EPERM},
		{"request_key", unix.SYS_REQUEST_KEY, [5]uintptr{p("user"), p("x")}, unix.EPERM},
		{"userfaultfd", unix.SYS_USERFAULTFD, [5]uintptr{1}, unix.EPERM},
		{"io_uring", unix.SYS_IO_URING_SETUP, [5]uintptr{1, at}, unix.EPERM},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [5]uintptr{at, 0, ^uintptr(0), ^uintptr(0)}, unix.EPERM},
		{"init_module", unix.SYS_INIT_MODULE, [5]uintptr{at, 1, at}, unix.EPERM},
		{"finit_module", unix.SYS_FINIT_MODULE, [5]uintptr{0, at}, unix.EPERM},
		{"delete_module", unix.SYS_DELETE_MODULE, [5]uintptr{p("loop")}, unix.EPERM},
		{"kexec_load", unix.SYS_KEXEC_LOAD, [5]uintptr{0, 0, at}, unix.EPERM},
		{"reboot", unix.SYS_REBOOT, [5]uintptr{0xfee1dead, 672274793, 0}, unix.EPERM},
		{"swapon", unix.SYS_SWAPON, [5]uintptr{p("/tmp/x")}, unix.EPERM},
		{"sethostname", unix.SYS_SETHOSTNAME, [5]uintptr{p("x"), 1}, unix.EPERM},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, [5]uintptr{at, 0}, unix.EPERM},
		{"syslog", unix.SYS_SYSLOG, [5]uintptr{3, at, 4096}, unix.EPERM},
		{"acct", unix.SYS_ACCT, [5]uintptr{0}, unix.EPERM},
		{"quotactl", unix.SYS_QUOTACTL, [5]uintptr{0}, unix.EPERM},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, [5]uintptr{0, at, 0}, unix.EPERM},
		{"personality: no address randomisation", unix.SYS_PERSONALITY, [5]uintptr{0x0040000}, unix.EPERM},
		{"mknod of a disk", unix.SYS_MKNODAT, [5]uintptr{^uintptr(99), p("/tmp/disk"), unix.S_IFBLK | 0o666, 0x700}, unix.EPERM},
		{"core limit", unix.SYS_PRLIMIT64, [5]uintptr{0, unix.RLIMIT_CORE, at, 0}, unix.EPERM},
		{"x32 getpid", 0x40000000 + unix.SYS_GETPID, [5]uintptr{}, unix.EPERM},
	} {
		_, _, errno := syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], 0)
		if errno != c.want {
			f.add("%s: %v, expected %v", c.name, errno, c.want)
		}
	}
	runtime.KeepAlive(&buf)
	for name, s := range map[string][3]int{
		"raw": {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, "packet": {unix.AF_PACKET, unix.SOCK_RAW, 0x0300}, "vsock": {unix.AF_VSOCK, unix.SOCK_STREAM, 0},
		"alg": {unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, "key": {15, unix.SOCK_RAW, 2}, "bluetooth": {unix.AF_BLUETOOTH, unix.SOCK_RAW, 1},
	} {
		if fd, err := unix.Socket(s[0], s[1], s[2]); !errors.Is(err, unix.EPERM) {
			f.add("%s socket: %d, %v", name, fd, err)
		}
	}
	if fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER); err == nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20); err == nil {
			f.add("SO_SNDBUFFORCE works: CAP_NET_ADMIN")
		}
	}
	return f
}

// probeFiles: args are host paths that exist and must not be seen.
func probeFiles(secret []string) (f findings) {
	for _, name := range append(secret, "/root", "/home", "/boot", "/sys/kernel", "/etc/shadow", "/proc/1/root", "/proc/1/environ", "/proc/1/maps", "/dev/loop0", "/dev/kmsg", "/dev/mem", "/dev/tty") {
		if _, err := os.Open(name); err == nil {
			f.add("%s can be opened", name)
		}
	}
	entries, err := os.ReadDir("/")
	for _, e := range entries {
		if !slices.Contains([]string{"bin", "dev", "etc", "lib", "lib64", "opt", "proc", "tmp", "usr", "var"}, e.Name()) {
			f.add("/%s exists", e.Name())
		}
	}
	if err != nil {
		f.add("/: %v", err)
	}
	if entries, err := os.ReadDir("/opt"); err != nil || len(entries) > 0 {
		f.add("/opt holds %v, %v", entries, err)
	}
	if entries, err := os.ReadDir("/tmp"); err != nil || len(entries) > 0 {
		f.add("/tmp holds %v, %v", entries, err)
	}
	for _, name := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms", "/proc/cmdline", "/proc/partitions"} {
		if text, err := os.ReadFile(name); err == nil && len(text) > 0 {
			f.add("%s shows %d bytes", name, len(text))
		}
	}
	// The way up from a directory opened before a chroot, and from a mount's root.
	if err := unix.Chdir("/tmp"); err == nil {
		for range 64 {
			unix.Chdir("..")
		}
		if _, err := os.Stat("root"); err == nil {
			f.add("../../.. leaves the root")
		}
	}
	return f
}

func probeProcesses(hostPIDs []string) (f findings) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		f.add("/proc: %v", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() {
			f.add("sees process %d", pid)
		}
	}
	for _, text := range hostPIDs {
		pid, err := strconv.Atoi(text)
		if err != nil {
			f.add("%v", err)
		}
		if pid != os.Getpid() && unix.Kill(pid, 0) == nil {
			f.add("reaches host process %d", pid)
		}
	}
	return f
}

// probeNetwork: args are host addresses that listen, TCP or unix (@abstract).
func probeNetwork(listening []string) (f findings) {
	interfaces, err := net.Interfaces()
	if err != nil || len(interfaces) != 1 || interfaces[0].Name != "lo" {
		f.add("interfaces %v, %v", interfaces, err)
	}
	for _, address := range append(listening, "8.8.8.8:53", "169.254.169.254:80", "[2001:4860:4860::8888]:53") {
		network := "tcp"
		if strings.HasPrefix(address, "@") {
			network = "unix"
		}
		if c, err := net.DialTimeout(network, address, 300*time.Millisecond); err == nil {
			f.add("reached %s", address)
			c.Close()
		} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			f.add("%s: packets left for somewhere: %v", address, err)
		}
	}
	return f
}

// probeWrites tries to write everywhere it can name; only /tmp and /dev/shm may take it.
func probeWrites([]string) (f findings) {
	for _, dir := range []string{"/", "/etc", "/dev", "/var", "/var/task", "/usr", "/usr/bin", "/proc", "/proc/self"} {
		if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err == nil {
			f.add("wrote to %s", dir)
		}
	}
	for _, name := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sys/net/ipv4/ip_forward", "/proc/sysrq-trigger",
		"/proc/self/oom_score_adj", "/proc/self/uid_map", "/proc/self/setgroups", "/sys/kernel/uevent_helper", "/etc/passwd", "/var/task/program"} {
		if file, err := os.OpenFile(name, os.O_WRONLY, 0); err == nil {
			f.add("opened %s for writing", name)
			file.Close()
		}
	}
	if err := os.Chmod("/tmp", 0o777); err == nil {
		f.add("changed the mode of /tmp")
	}
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		if err := os.WriteFile(filepath.Join(dir, "x"), []byte("x"), 0o600); err != nil {
			f.add("cannot write to %s: %v", dir, err)
		}
	}
	return f
}

// probeSetuid makes a setuid copy of itself, and runs the host's setuid programs; neither gives anything.
func probeSetuid([]string) (f findings) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		f.add("%v", err)
		return f
	}
	if err := os.WriteFile("/tmp/suid", self, 0o755); err != nil {
		f.add("%v", err)
	}
	os.Chmod("/tmp/suid", 0o6755)
	if out, err := exec.Command("/tmp/suid", "berth-probe", "identity").CombinedOutput(); err != nil || len(out) > 0 {
		if !strings.HasPrefix(string(out), "session") || strings.Count(string(out), "\n") != 1 {
			f.add("setuid copy: %s, %v", out, err)
		}
	}
	for _, name := range []string{"/usr/bin/su", "/usr/bin/mount", "/usr/bin/passwd"} {
		if out, err := exec.Command(name, "-c", "id").CombinedOutput(); err == nil && strings.Contains(string(out), "uid=0") {
			f.add("%s gave root: %s", name, out)
		}
	}
	return f
}

// probeInit attacks process 1, which the daemon then must still find at work.
func probeInit([]string) (f findings) {
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		if err := unix.Kill(1, sig); err == nil {
			f.add("signal %d was sent to init", sig)
		}
	}
	for _, name := range []string{"mem", "maps", "environ", "fd", "exe", "ns/mnt", "root/etc"} {
		if _, err := os.Open("/proc/1/" + name); err == nil {
			f.add("/proc/1/%s can be opened", name)
		}
	}
	if fd, err := unix.PidfdOpen(1, 0); err == nil {
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err == nil {
			f.add("init was signalled by pidfd")
		}
	}
	return f
}

// probeBomb forks until it cannot, each child as well.
func probeBomb([]string) (f findings) {
	fmt.Println("boom")
	for {
		exec.Command("/proc/self/exe", "berth-probe", "bomb").Start()
	}
}

func probeLimits([]string) (f findings) {
	for resource, want := range map[int]uint64{unix.RLIMIT_NOFILE: 1024, unix.RLIMIT_NPROC: 742, unix.RLIMIT_MEMLOCK: 65536, unix.RLIMIT_CORE: 1} {
		var limit unix.Rlimit
		if err := unix.Prlimit(0, resource, nil, &limit); err != nil || limit.Max != want {
			f.add("limit %d: %+v, %v; expected %d", resource, limit, err, want)
		}
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4096, Max: 4096}, nil); err == nil {
		f.add("raised the limit of open files")
	}
	return f
}

// probeDescriptors: nothing but what Exec gave is open.
func probeDescriptors([]string) (f findings) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		f.add("%v", err)
	}
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(to, "/proc/") {
			continue // the Go runtime's own, or this listing
		}
		if n, err := strconv.Atoi(e.Name()); err != nil || n > 2 {
			f.add("descriptor %s is %s", e.Name(), to)
		}
	}
	if env := os.Environ(); !slices.Equal(env, []string{"A=1"}) {
		f.add("environment %v", env)
	}
	return f
}
