package namespace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// Operations of the set-up program; init/wire.h explains each.
const (
	opHostname = 1
	opRoot     = 2
	opDir      = 3
	opFile     = 4
	opLink     = 5
	opBind     = 6
	opDevice   = 7
	opTmpfs    = 8
	opScratch  = 9
	opProc     = 10
	opMaskFile = 11
	opMaskDir  = 12
)

const (
	rootSize = "1m"  // the root holds directories and a few small files
	shmSize  = "64m" // /dev/shm; counts as memory of the function
)

// plan is the set-up program of one sandbox: what its file system is, in the order in which it is built. Policy is here, in
// Go; the init only carries it out.
type plan struct {
	body  []byte
	next  uint32   // index of the next descriptor that comes with it; 0: none come, and binds are by path
	binds []string // what the descriptors from the last index on show
}

func (p *plan) add(code, arg uint32, a, b string) {
	for _, v := range [...]uint32{code, arg, uint32(len(a)), uint32(len(b))} {
		p.body = binary.NativeEndian.AppendUint32(p.body, v)
	}
	p.body = append(p.body, a...)
	p.body = append(p.body, 0)
	p.body = append(p.body, b...)
	p.body = append(p.body, 0)
}

// hostFacts is what every plan needs to know of the host; read once.
type hostFacts struct {
	attach string // an existing directory on which an init mounts its root before it pivots
	files  [][2]string
	masked []fs.FileInfo
}

// newPlan lays the root out. next: the index of the first descriptor that comes with the plan, 0 if none do. scratch: the first is
// a file system for /tmp; otherwise /tmp is a tmpfs of that size.
func newPlan(host *hostFacts, spec sandbox.Spec, next uint32, scratch bool) (*plan, error) {
	p := &plan{body: make([]byte, 0, 8<<10), next: next}
	hostname := spec.Hostname
	if hostname == "" {
		hostname = spec.ID
	}
	p.add(opHostname, 0, hostname, "")
	p.add(opRoot, 0, host.attach, rootSize)
	for _, dir := range []string{"/dev", "/dev/shm", "/etc", "/opt", "/proc", "/tmp", "/var"} {
		p.add(opDir, 0o755, dir, "")
	}
	p.devices()
	for _, file := range host.files {
		if !slices.ContainsFunc(spec.Mounts, func(m sandbox.Mount) bool { return m.Target == file[0] || m.Target == "/etc" }) {
			p.add(opFile, 0, file[0], file[1])
		}
	}
	p.add(opTmpfs, unix.MOUNT_ATTR_NOEXEC, "/dev/shm", shmSize)
	if scratch {
		p.add(opScratch, p.next, "/tmp", "")
		p.next++
	} else {
		p.add(opTmpfs, 0, "/tmp", fmt.Sprint(spec.Limits.ScratchBytes))
	}
	if err := p.mounts(spec.Mounts, spec.Late); err != nil {
		return nil, err
	}
	p.add(opProc, 0, "/proc", "")
	for _, info := range host.masked {
		code := uint32(opMaskFile)
		if info.IsDir() {
			code = opMaskDir
		}
		p.add(code, 0, "/proc/"+info.Name(), "")
	}
	return p, nil
}

// devices makes the few device files programs cannot do without; no terminal, no disk, no kvm.
func (p *plan) devices() {
	for _, d := range []struct {
		name  string
		minor uint32
	}{{"null", 3}, {"zero", 5}, {"full", 7}, {"random", 8}, {"urandom", 9}} {
		p.add(opDevice, uint32(unix.Mkdev(1, d.minor)), "/dev/"+d.name, "/dev/"+d.name)
	}
	for _, link := range [][2]string{
		{"/dev/fd", "/proc/self/fd"}, {"/dev/stdin", "/proc/self/fd/0"},
		{"/dev/stdout", "/proc/self/fd/1"}, {"/dev/stderr", "/proc/self/fd/2"},
	} {
		p.add(opLink, 0, link[0], link[1])
	}
}

// mounts adds the caller's binds, parents before children, and the directories for late ones. A target inside another mount
// must exist there.
func (p *plan) mounts(all []sandbox.Mount, late []string) error {
	mounts := slices.Clone(all)
	slices.SortFunc(mounts, func(a, b sandbox.Mount) int { return strings.Compare(a.Target, b.Target) })
	made := map[string]bool{"/": true, "/etc": true, "/opt": true, "/var": true}
	usr := slices.Contains(mounts, sandbox.Mount{Source: "/usr", Target: "/usr"})
	for i, m := range mounts {
		inside := slices.ContainsFunc(mounts[:i], func(parent sandbox.Mount) bool { return beneath(m.Target, parent.Target) })
		if usr && !inside {
			// On merged-usr hosts /bin, /lib, /lib64 are links into /usr: a link is faster than a mount.
			if to, err := os.Readlink(m.Source); err == nil && m.Source == m.Target && strings.HasPrefix(to, "usr/") {
				p.add(opLink, 0, m.Target, to)
				continue
			}
		}
		info, err := os.Stat(m.Source)
		if err != nil {
			return fmt.Errorf("mount at %s: %w", m.Target, err)
		}
		if !inside {
			p.parents(path.Dir(m.Target), made)
			if info.IsDir() {
				p.add(opDir, 0o755, m.Target, "")
				made[m.Target] = true
			} else {
				p.add(opFile, 0, m.Target, "")
			}
		}
		p.add(opBind, p.next, m.Target, m.Source)
		if p.next > 0 {
			p.next++
			p.binds = append(p.binds, m.Source)
		}
	}
	for _, target := range late {
		p.parents(target, made)
	}
	return nil
}

func (p *plan) parents(dir string, made map[string]bool) {
	if made[dir] {
		return
	}
	p.parents(path.Dir(dir), made)
	p.add(opDir, 0o755, dir, "")
	made[dir] = true
}

func beneath(name, dir string) bool { return strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/") }

// maskedProc are the entries of /proc that the OCI default profile hides, and those that tell of the host's boot and disks;
// what the profile makes read-only needs nothing, since all of /proc is.
var maskedProc = []string{
	"acpi", "asound", "cmdline", "diskstats", "interrupts", "kallsyms", "kcore", "key-users", "keys", "latency_stats",
	"partitions", "sched_debug", "scsi", "timer_list", "timer_stats",
}

func readHost(attach string) (*hostFacts, error) {
	host := &hostFacts{attach: attach}
	for _, name := range maskedProc {
		info, err := os.Lstat("/proc/" + name)
		if err == nil {
			host.masked = append(host.masked, info)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	host.files = [][2]string{
		{"/etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/sbin/nologin\n%s:x:%d:%d::/home/%[1]s:/sbin/nologin\n",
			sandbox.UserName, sandbox.UserID, sandbox.GroupID)},
		{"/etc/group", fmt.Sprintf("root:x:0:\n%s:x:%d:\n", sandbox.UserName, sandbox.GroupID)},
		{"/etc/hosts", "127.0.0.1 localhost localhost.localdomain\n::1 localhost\n169.254.100.1 sandbox.localdomain sandbox\n"},
		{"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"},
		{"/etc/resolv.conf", "# This sandbox has no network.\n"},
	}
	const maxZone = 16 << 10
	if zone, err := os.ReadFile("/etc/localtime"); err == nil && len(zone) <= maxZone {
		host.files = append(host.files, [2]string{"/etc/localtime", string(zone)})
	}
	return host, nil
}
