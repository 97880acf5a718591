//go:build linux

package namespace

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// probeUseNet leaves a trace in the sandbox's network namespace.
func probeUseNet(args []string) (f findings) {
	domain, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
	var want error
	switch args[0] {
	case "unix":
		domain, address = unix.AF_UNIX, &unix.SockaddrUnix{Name: "@left"}
	case "unroutable":
		address, want = &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}, unix.ENETUNREACH
	case "unroutable6", "flowlabel":
		domain, address, want = unix.AF_INET6, &unix.SockaddrInet6{Port: 9, Addr: [16]byte{0x20, 1, 0xd, 0xb8, 15: 1}}, unix.ENETUNREACH
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM, 0)
	if err != nil {
		f.add("socket: %v", err)
		return f
	}
	switch args[0] {
	case "unix":
		err = unix.Bind(fd, address)
	case "flowlabel":
		want = nil
		request := [32]byte{15: 1, 17: 0, 18: 0x12, 19: 0x34, 20: 0, 21: 1, 22: 1, 26: 60} // ::1, label 0x1234, get, exclusive, create, linger 60 s
		_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_IPV6, 32, uintptr(unsafe.Pointer(&request)), 32, 0)
		if errno != 0 {
			err = errno
		}
	default:
		err = unix.Sendto(fd, []byte("x"), 0, address)
	}
	if !errors.Is(err, want) {
		f.add("%s: %v, want %v", args[0], err, want)
	}
	return f
}

// inode names a network namespace as long as it is there.
func inode(t *testing.T, n *network) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(n.ns, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// sorted waits for the work in the background and says whether a namespace was kept for use again.
func sorted(t *testing.T, p *networks, ino uint64) bool {
	t.Helper()
	p.work.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.free {
		if inode(t, n) == ino {
			return true
		}
	}
	return false
}

// TestNetworkUsedAgain: a network namespace gets to another sandbox only if nobody ever did anything in it that shows.
func TestNetworkUsedAgain(t *testing.T) {
	d := newTestDriver(t)
	c := config(t, d)
	for name, clean := range map[string]bool{
		"":         true, // a program that has nothing to do with networks
		"unix":     true, // nothing of an abstract address outlives its socket
		"loopback": false, "unroutable": false, "unroutable6": false, "flowlabel": false,
	} {
		t.Run("use "+name, func(t *testing.T) {
			b := c.Make(t)
			ino := inode(t, b.(*box).network)
			if name == "" {
				c.Output(t, b, "exit", "0")
			} else if found, _ := runProbe(t, b, "usenet", name); found != "" {
				t.Fatal(found)
			}
			if err := b.Destroy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := sorted(t, d.networks, ino); got != clean {
				t.Errorf("used again: %v, want %v", got, clean)
			}
		})
	}
}

// TestNetworkHeld: a socket that the daemon still has in a namespace keeps that from being used again.
func TestNetworkHeld(t *testing.T) {
	d := newTestDriver(t)
	b := config(t, d).Make(t)
	ino := inode(t, b.(*box).network)
	l, err := b.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:9001"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := b.Destroy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if sorted(t, d.networks, ino) {
		t.Error("used again while a listener is in it")
	}
}

// TestNetworksFreed: Close leaves no network namespace behind, neither those made ahead nor used ones.
func TestNetworksFreed(t *testing.T) {
	before := heldNetworks(t)
	d := newTestDriver(t)
	c := config(t, d)
	for _, use := range []string{"loopback", "unix"} {
		b := c.Make(t)
		runProbe(t, b, "usenet", use)
		if err := b.Destroy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.networks.work.Wait()
	if got := heldNetworks(t); got < before+networksReady {
		t.Errorf("%d network namespaces are held, %d before: none was made ahead", got, before)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := heldNetworks(t); got != before {
		t.Errorf("%d network namespaces are held, %d before", got, before)
	}
}

func heldNetworks(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "net:") {
			n++
		}
	}
	return n
}

// TestGroupsUsedAgain: cgroups get to another sandbox with that one's limits and no memory of the one before; not if they
// were frozen, or ran out of memory.
func TestGroupsUsedAgain(t *testing.T) {
	d := newTestDriver(t)
	c := config(t, d)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var groups, again *group
	var second sandbox.Sandbox
	for try := 0; ; try++ { // on a busy machine the kernel may take a while to forget what was charged to them: then they are not used again
		first := c.Make(t, func(s *sandbox.Spec) {
			s.ID = fmt.Sprintf("first-%d", try)
			s.Limits.MemoryBytes, s.Limits.CPUs, s.Limits.PIDs = 256<<20, 0.5, 50
		})
		groups = first.(*box).group
		if groups.c.unified || groups.c.v2 == "" {
			t.Skip("only hybrid cgroups are used again")
		}
		c.Output(t, first, "eat", "64")
		must(first.Destroy(t.Context()))
		second = c.Make(t, func(s *sandbox.Spec) {
			s.ID = fmt.Sprintf("second-%d", try)
			s.Limits.MemoryBytes, s.Limits.CPUs, s.Limits.PIDs = 64<<20, 0.25, 20
		})
		if again = second.(*box).group; again == groups {
			break
		}
		if try == 20 {
			t.Fatal("the groups were not used again")
		}
		must(second.Destroy(t.Context()))
	}
	for name, want := range map[string]string{
		again.dir(again.c.memory) + "/memory.limit_in_bytes": "67108864", again.dir(again.c.pids) + "/pids.max": "21",
		again.dir(again.c.cpu) + "/cpu.cfs_quota_us": "5000", again.dir(again.c.cpu) + "/cpu.cfs_burst_us": "5000",
	} {
		if text, err := os.ReadFile(name); err != nil || strings.TrimSpace(string(text)) != want {
			t.Errorf("%s: %s, %v; want %s", name, text, err, want)
		}
	}
	if u, err := second.Usage(t.Context()); err != nil || u.MaxMemoryBytes > 8<<20 || u.CPUNanoseconds > 100e6 {
		t.Errorf("the one before shows: %+v, %v", u, err)
	}
	must(second.Freeze(t.Context()))
	must(second.Thaw(t.Context()))
	must(second.Destroy(t.Context()))
	third := c.Make(t, func(s *sandbox.Spec) { s.ID = "third" })
	if third.(*box).group == groups {
		t.Error("groups that were frozen are used again")
	}
}

// TestNetworksSortedTogether: several are looked at by one thread, and what it read in one is not taken for what is in another.
func TestNetworksSortedTogether(t *testing.T) {
	d := newTestDriver(t)
	p := d.networks
	var all []*network
	for i := range 4 {
		n, err := p.make()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
		if i%2 == 0 {
			continue
		}
		err = p.within(func() error {
			if err := unix.Setns(n.ns, unix.CLONE_NEWNET); err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Sendto(fd, []byte("x"), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{169, 254, 100, 1}})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	inodes := map[uint64]bool{}
	for i, n := range all {
		inodes[inode(t, n)] = i%2 == 0
	}
	p.sort(all)
	for ino, clean := range inodes {
		if got := sorted(t, p, ino); got != clean {
			t.Errorf("used again: %v, want %v", got, clean)
		}
	}
}
