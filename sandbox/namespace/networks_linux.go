package namespace

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	networksReady = 4  // made ahead
	networksKept  = 16 // at most: of those made ahead and used ones that are as good as new; and of used ones not looked at yet
)

// network is one network namespace, in which nothing but lo is: up, with 127.0.0.1 and 169.254.100.1. It belongs to the host's
// user namespace, so nobody in a sandbox has a capability over it.
type network struct{ ns int }

// networkTells are what shows in a namespace that it was used: a packet, even one that found no way; a socket that is still there;
// a flow label, which outlives its socket. They are files of /proc/net; kernels without IPv6 lack some.
var networkTells = []string{"dev", "sockstat", "snmp", "snmp6", "ip6_flowlabel", "netstat"}

// readTells reads them in the namespace of the calling thread, and stops after the first that is not as wanted.
func readTells(want [][]byte) (all [][]byte, err error) {
	var buf [16 << 10]byte
	for i, name := range networkTells {
		text, err := readFile("/proc/thread-self/net/"+name, buf[:])
		if errors.Is(err, unix.ENOENT) && strings.Contains(name, "6") {
			text, err = nil, nil
		}
		if err == nil && len(text) == len(buf) {
			err = fmt.Errorf("/proc/net/%s is longer than %d bytes", name, len(buf))
		}
		if err != nil {
			return nil, err
		}
		if name == "sockstat" { // "sockets: used 0"; the other lines have sums over all namespaces
			text, _, _ = bytes.Cut(text, []byte("\n"))
		}
		if want != nil && !bytes.Equal(text, want[i]) {
			return nil, errUsed
		}
		all = append(all, bytes.Clone(text))
	}
	return all, nil
}

var errUsed = errors.New("the network namespace was used")

// networks makes network namespaces, some ahead of need, and takes used ones back. To make one and to end it is the dearest part
// of a sandbox: the kernel registers some hundred sysctls for it, and waits for all processors to end it.
type networks struct {
	home  func() (int, error)      // the daemon's own
	fresh func() ([][]byte, error) // what readTells says of a new one

	mu      sync.Mutex
	free    []*network
	used    []*network // to be looked at
	tending bool
	closed  bool
	work    sync.WaitGroup
}

func newNetworks() *networks {
	return &networks{
		home: sync.OnceValues(func() (int, error) {
			fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return -1, fmt.Errorf("the daemon's own network namespace: %w", err)
			}
			return fd, nil
		}),
		fresh: sync.OnceValues(func() ([][]byte, error) { return readTells(nil) }),
	}
}

// take returns one that is the caller's alone.
func (p *networks) take() (*network, error) {
	p.mu.Lock()
	var n *network
	if last := len(p.free) - 1; last >= 0 {
		n, p.free = p.free[last], p.free[:last]
	}
	p.tendLocked()
	p.mu.Unlock()
	if n != nil {
		return n, nil
	}
	return p.make()
}

// give takes one back after its sandbox's last process has ended.
func (p *networks) give(n *network) {
	p.mu.Lock()
	keep := !p.closed && len(p.used) < networksKept
	if keep {
		p.used = append(p.used, n)
		p.tendLocked()
	}
	p.mu.Unlock()
	if !keep {
		n.end()
	}
}

// tendLocked begins the work in the background if there is any; p.mu is held.
func (p *networks) tendLocked() {
	if !p.tending && !p.closed && (len(p.used) > 0 || len(p.free) < networksReady/2) {
		p.tending = true
		p.work.Go(p.tend)
	}
}

// tend looks at what was used and makes some ahead.
func (p *networks) tend() {
	for {
		p.mu.Lock()
		used := p.used
		p.used = nil
		if len(used) == 0 && (p.closed || len(p.free) >= networksReady) {
			p.tending = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		if len(used) > 0 {
			p.sort(used)
			continue
		}
		n, err := p.make()
		if err != nil {
			p.mu.Lock()
			p.tending = false // the next take meets the error itself, or tries again
			p.mu.Unlock()
			return
		}
		p.put(n)
	}
}

// sort uses those again that were provably never used, and ends the others.
func (p *networks) sort(used []*network) {
	clean := make([]bool, len(used))
	p.within(func() error { // failing, none is clean
		for i, n := range used {
			if err := unix.Setns(n.ns, unix.CLONE_NEWNET); err != nil {
				return err
			}
			fresh, err := p.fresh() // of the first one, in make
			if err == nil {
				_, err = readTells(fresh)
			}
			clean[i] = err == nil
		}
		return nil
	})
	for i, n := range used {
		if clean[i] {
			p.put(n)
		} else {
			n.end()
		}
	}
}

func (p *networks) put(n *network) {
	p.mu.Lock()
	keep := !p.closed && len(p.free) < networksKept
	if keep {
		p.free = append(p.free, n)
	}
	p.mu.Unlock()
	if !keep {
		n.end()
	}
}

// end frees it; the kernel takes it apart in the background.
func (n *network) end() { unix.Close(n.ns) }

// close frees all. Nothing is taken any more.
func (p *networks) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.work.Wait() // it looks at what was used, too, and keeps nothing
	p.mu.Lock()
	left := append(p.free, p.used...)
	p.free, p.used = nil, nil
	p.mu.Unlock()
	for _, n := range left {
		n.end()
	}
	if home, err := p.home(); err == nil {
		unix.Close(home)
	}
}

// make makes one.
func (p *networks) make() (*network, error) {
	n := &network{ns: -1}
	err := p.within(func() error {
		err := n.make()
		if err == nil {
			p.fresh() // failing, none is used again
		}
		return err
	})
	if err != nil {
		if n.ns >= 0 {
			n.end()
		}
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return n, nil
}

// within runs f on a thread of the daemon that comes home afterwards, or else ends, as in mounter. f makes system calls that
// wait for nobody.
func (p *networks) within(f func() error) error {
	home, err := p.home()
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := f()
		lost := unix.Setns(home, unix.CLONE_NEWNET)
		if lost == nil {
			runtime.UnlockOSThread()
		}
		done <- errors.Join(err, lost)
	}()
	return <-done
}

// make moves the calling thread into a new namespace and makes that ready.
func (n *network) make() error {
	err := unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		err = raiseLoopback()
	}
	if err == nil {
		n.ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	return err
}

// raiseLoopback brings lo up with 127.0.0.1 (which the kernel adds) and 169.254.100.1/32, where the Runtime API listens.
func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return os.NewSyscallError("lo up", err)
	}
	alias, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	for _, set := range []struct {
		request uint
		value   []byte
	}{{unix.SIOCSIFADDR, []byte{169, 254, 100, 1}}, {unix.SIOCSIFNETMASK, []byte{255, 255, 255, 255}}} {
		if err := alias.SetInet4Addr(set.value); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, set.request, alias); err != nil {
			return os.NewSyscallError("address of lo", err)
		}
	}
	return nil
}
