package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	makeLimit     = 30 * time.Second // mke2fs of 10 GiB takes 50 ms; a slow disk may take longer
	maxDiscarding = 16               // used file systems taken apart at once; more wait in Destroy
	maxTemplates  = 64               // sizes
)

// scratch is one /tmp: an ext4 file system in an unlinked sparse file. Being a disk, it enforces its size with ENOSPC and its
// content is cache the kernel can write out, not memory of the function.
type scratch struct {
	size   int64
	device string
	pin    int // a detached mount that is never attached; it keeps the file system alive between sandboxes
	fresh  scratchState
}

// scratchState tells an untouched file system from a used one: its root directory's times change when an entry is made or
// removed; unnamed files (O_TMPFILE) that are still held count as inodes. The root belongs to the host's root, so the
// function cannot set times, attributes or mode.
type scratchState struct {
	modified, changed unix.Timespec
	blocks, inodes    uint64
	mode              uint32
}

func (s *scratch) state() (scratchState, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Fstat(s.pin, &st); err != nil {
		return scratchState{}, err
	}
	if err := unix.Fstatfs(s.pin, &fs); err != nil {
		return scratchState{}, err
	}
	return scratchState{st.Mtim, st.Ctim, fs.Bfree, fs.Ffree, st.Mode}, nil
}

// mount returns a mount for one sandbox; the caller closes it once it is attached.
func (s *scratch) mount() (int, error) { return mountExt4(s.device) }

func (s *scratch) used() int64 {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(s.pin, &fs); err != nil {
		return 0
	}
	return int64(s.fresh.blocks-min(fs.Bfree, s.fresh.blocks)) * fs.Bsize
}

// discard ends the file system. Shut down first, it throws its dirty pages away instead of writing them to an image nobody
// will read.
func (s *scratch) discard() {
	if fd, err := unix.Openat(s.pin, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
		const shutdown, withoutFlush = 0x8004587d, 2        // EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH
		unix.IoctlSetPointerInt(fd, shutdown, withoutFlush) // failing, it only takes longer
		unix.Close(fd)
	}
	unix.Close(s.pin)
}

// scratchPool makes scratches, some ahead of need, and takes used ones back. The zero size of ready means the last size asked
// for: functions rarely change it from 512 MB.
type scratchPool struct {
	dir   string
	ready int
	log   *slog.Logger

	templates sync.Mutex // held while mke2fs runs

	mu       sync.Mutex
	size     int64 // of those in free
	free     []*scratch
	filling  bool
	closed   bool
	made     bool // one at least: this machine can
	broken   bool // this machine cannot: tmpfs instead
	work     sync.WaitGroup
	throwing chan struct{} // bounds the discards in the background
}

func newScratchPool(dir string, ready int, log *slog.Logger) *scratchPool {
	return &scratchPool{dir: dir, ready: ready, log: log, throwing: make(chan struct{}, maxDiscarding)}
}

// take returns a scratch of the size, or nil when this machine cannot make any, or not this time: the sandbox then gets a
// tmpfs. A machine that made one before is asked again, since a full disk or a lack of descriptors passes.
func (p *scratchPool) take(ctx context.Context, size int64) (*scratch, error) {
	p.mu.Lock()
	if p.broken {
		p.mu.Unlock()
		return nil, nil
	}
	var s *scratch
	var other []*scratch
	if p.size != size {
		other, p.free, p.size = p.free, nil, size
	} else if n := len(p.free); n > 0 {
		s, p.free = p.free[n-1], p.free[:n-1]
	}
	if !p.filling && !p.closed && len(p.free) < (p.ready+1)/2 {
		p.filling = true
		p.work.Go(p.fill)
	}
	p.mu.Unlock()
	for _, o := range other {
		p.throw(o)
	}
	if s != nil {
		return s, nil
	}
	s, err := p.make(ctx, size)
	if err != nil && ctx.Err() == nil {
		p.failed(err)
		return nil, nil
	}
	return s, err
}

// takeOther makes a scratch of a size beside the pool's own, without changing what is kept made ahead. Unlike take it has no
// answer for a machine that cannot.
func (p *scratchPool) takeOther(ctx context.Context, size int64) (*scratch, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 && p.size == size {
		defer p.mu.Unlock()
		s := p.free[n-1]
		p.free = p.free[:n-1]
		return s, nil
	}
	p.mu.Unlock()
	return p.make(ctx, size)
}

// failed tells the operator that a sandbox gets its /tmp in memory; once for all when this machine has never made any.
func (p *scratchPool) failed(err error) {
	p.mu.Lock()
	first := !p.broken
	p.broken = !p.made
	broken := p.broken
	p.mu.Unlock()
	switch {
	case !broken:
		p.log.Warn("a sandbox gets /tmp in memory: no loop-mounted file system could be made for it", "error", err)
	case first:
		p.log.Warn("sandboxes get /tmp in memory: no loop-mounted file system here", "error", err)
	}
}

// fill tops the pool up to its mark.
func (p *scratchPool) fill() {
	for {
		p.mu.Lock()
		if p.closed || p.broken || len(p.free) >= p.ready {
			p.filling = false
			p.mu.Unlock()
			return
		}
		size := p.size
		p.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), makeLimit)
		s, err := p.make(ctx, size)
		cancel()
		if err != nil {
			p.mu.Lock()
			p.filling = false // the next take meets the error itself, or tries again
			p.mu.Unlock()
			return
		}
		p.put(s)
	}
}

// put keeps a clean scratch, or throws it away when the pool has enough.
func (p *scratchPool) put(s *scratch) {
	p.mu.Lock()
	keep := !p.closed && s.size == p.size && len(p.free) < 2*p.ready
	if keep {
		p.free = append(p.free, s)
	}
	p.mu.Unlock()
	if !keep {
		p.throw(s)
	}
}

// give takes a scratch back after its sandbox's last process has ended. Only one that was provably never written to is used
// again.
func (p *scratchPool) give(s *scratch) {
	if now, err := s.state(); err == nil && now == s.fresh {
		p.put(s)
		return
	}
	p.throw(s)
}

// throw discards in the background, unless too many are being discarded already.
func (p *scratchPool) throw(s *scratch) {
	select {
	case p.throwing <- struct{}{}:
		p.work.Go(func() {
			s.discard()
			<-p.throwing
		})
	default:
		s.discard()
	}
}

func (p *scratchPool) close() {
	p.mu.Lock()
	p.closed = true
	free := p.free
	p.free = nil
	p.mu.Unlock()
	for _, s := range free {
		s.discard()
	}
	p.work.Wait()
}

// make builds one: copy of the template, loop device, mount.
func (p *scratchPool) make(ctx context.Context, size int64) (*scratch, error) {
	template, err := p.template(ctx, size)
	if err != nil {
		return nil, err
	}
	defer template.Close()
	info, err := template.Stat()
	if err != nil {
		return nil, err
	}
	image, err := os.CreateTemp(p.dir, "image-*")
	if err != nil {
		return nil, err
	}
	defer image.Close() // the loop device keeps it
	if err := os.Remove(image.Name()); err != nil {
		return nil, err
	}
	if err := copySparse(image, template, info.Size()); err != nil {
		return nil, fmt.Errorf("scratch image: %w", err)
	}
	loop, err := attachLoop(ctx, image)
	if err != nil {
		return nil, err
	}
	defer loop.Close() // the mount keeps it
	pin, err := mountExt4(loop.Name())
	if err != nil {
		return nil, err
	}
	s := &scratch{size: size, device: loop.Name(), pin: pin}
	err = unix.Unlinkat(pin, "lost+found", unix.AT_REMOVEDIR)
	if err == nil {
		err = unix.Fchmodat(pin, ".", 0o1777, 0)
	}
	if err == nil {
		s.fresh, err = s.state()
	}
	if err != nil {
		s.discard()
		return nil, fmt.Errorf("scratch on %s: %w", s.device, err)
	}
	p.mu.Lock()
	p.made = true
	p.mu.Unlock()
	return s, nil
}

// template opens the empty image of a size, made once by mke2fs and kept in the state directory.
func (p *scratchPool) template(ctx context.Context, size int64) (*os.File, error) {
	name := filepath.Join(p.dir, fmt.Sprintf("template-%d", size))
	p.templates.Lock()
	defer p.templates.Unlock()
	file, err := os.Open(name)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return file, err
	}
	if known, err := filepath.Glob(filepath.Join(p.dir, "template-*")); err == nil && len(known) >= maxTemplates {
		os.Remove(known[0])
	}
	mke2fs, err := findTool("mke2fs")
	if err != nil {
		return nil, err
	}
	const inodeSize, bytesPerInode, fixed = 256, 16384, 2 << 20
	// What the file system needs itself comes on top, so that the function can use the whole size: 1/64 for inodes, 1/32768
	// for each bitmap, and ext4's own reserve of 2 %, at most 4,096 blocks.
	total := size + size/(bytesPerInode/inodeSize) + size/8192 + min(size/45, 4096*4096) + fixed
	total = (total + 4095) &^ 4095
	making := filepath.Join(p.dir, fmt.Sprintf("image-%d.template", size))
	defer os.Remove(making)
	if err := os.WriteFile(making, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(making, total); err != nil {
		return nil, err
	}
	// No journal: the file system never outlives a crash. No reserved blocks: there is no root to need them.
	cmd := exec.CommandContext(ctx, mke2fs, "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-i", fmt.Sprint(bytesPerInode),
		"-I", fmt.Sprint(inodeSize), "-O", "^has_journal,^resize_inode,uninit_bg", "-E", "lazy_itable_init=1,nodiscard", making)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	if err := os.Rename(making, name); err != nil {
		return nil, err
	}
	return os.Open(name)
}

// findTool looks in the system directories too: a daemon's PATH often lacks them.
func findTool(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return exec.LookPath(name)
}
