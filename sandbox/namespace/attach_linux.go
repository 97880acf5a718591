package namespace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

// Attach implements sandbox.Sandbox. The trees are opened here, in the host's mount namespace; a thread of the daemon then
// enters the sandbox's to put them in their places. Nothing of the sandbox takes part: its init has no power over mounts.
func (b *box) Attach(ctx context.Context, a sandbox.Attachment) error {
	if b.d.rootless {
		return fmt.Errorf("%w: late mounts need root", sandbox.ErrUnsupported)
	}
	b.destroying.Lock() // no change of limits meanwhile, and no end
	defer b.destroying.Unlock()
	switch err := a.Check(b.spec); {
	case err != nil:
		return err
	case b.destroyed:
		return b.goneError()
	case b.attached:
		return fmt.Errorf("sandbox %s: a second Attach", b.id)
	case b.scratch == nil && a.Limits.ScratchBytes != b.spec.Limits.ScratchBytes:
		return fmt.Errorf("%w: a /tmp in memory cannot change its size", sandbox.ErrUnsupported)
	}
	b.attached = true
	trees, err := b.trees(ctx, a)
	defer func() {
		for _, t := range trees {
			unix.Close(t.fd)
		}
	}()
	if err != nil {
		return fmt.Errorf("attach to sandbox %s: %w", b.id, err)
	}
	extra := int64(0)
	if b.scratch == nil {
		extra = a.Limits.ScratchBytes // as in build
	}
	if b.group != nil {
		if err := b.group.change(b.spec.Limits, a.Limits, extra); err != nil {
			return fmt.Errorf("attach to sandbox %s: %w", b.id, err)
		}
	}
	b.spec.Limits = a.Limits
	if err := b.d.mounter.mount(ctx, b.pidfd, trees); err != nil {
		return fmt.Errorf("attach to sandbox %s: %w", b.id, err)
	}
	return nil
}

// tree is a detached mount and where it goes.
type tree struct {
	fd     int
	target string
}

// trees makes the detached mounts, also a /tmp of another size. What it returns is to be closed, after an error too.
func (b *box) trees(ctx context.Context, a sandbox.Attachment) ([]tree, error) {
	var all []tree
	for _, m := range a.Mounts {
		fd, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return all, &os.PathError{Op: "open_tree", Path: m.Source, Err: err}
		}
		all = append(all, tree{fd, m.Target})
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return all, &os.PathError{Op: "mount_setattr", Path: m.Source, Err: err}
		}
	}
	if a.Limits.ScratchBytes == b.spec.Limits.ScratchBytes {
		return all, nil
	}
	other, err := b.d.scratch.takeOther(ctx, a.Limits.ScratchBytes)
	if err != nil {
		return all, fmt.Errorf("/tmp: %w", err)
	}
	b.scratch, b.covered = other, b.scratch // Destroy gives both back
	fd, err := other.mount()
	if err != nil {
		return all, err
	}
	return append(all, tree{fd, "/tmp"}), nil
}

// mounter moves mounts into sandboxes. It has threads of its own for that: a thread that changes its mount namespace must
// not share its root and directory with the others, and no other goroutine may run on it meanwhile. Go starts no threads
// from a locked one, so none is born in a sandbox. The threads run system calls only, never code or data of a sandbox.
type mounter struct {
	requests chan mountRequest
	start    sync.Once
	threads  sync.WaitGroup

	mu     sync.RWMutex // read-held while a request is handed over
	closed bool
}

type mountRequest struct {
	pidfd *os.File
	trees []tree
	done  chan error // capacity 1
}

// mountersMost bounds the threads; one mount takes some 50 µs.
const mountersMost = 4

func newMounter() *mounter { return &mounter{requests: make(chan mountRequest)} }

func (m *mounter) mount(ctx context.Context, pidfd *os.File, trees []tree) error {
	if len(trees) == 0 {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return sandbox.ErrGone
	}
	m.start.Do(func() {
		for range min(mountersMost, runtime.NumCPU()) {
			m.threads.Go(m.serve)
		}
	})
	r := mountRequest{pidfd, trees, make(chan error, 1)}
	select {
	case m.requests <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	return <-r.done // system calls that do not wait for anybody
}

// serve keeps threads going until close; one that could not come home is given up.
func (m *mounter) serve() {
	for !m.thread() {
	}
}

// thread serves on a thread of its own, which ends with the goroutine since it is never unlocked. It returns true when the
// mounter is closed.
func (m *mounter) thread() bool {
	over := make(chan bool, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(home)
			err = unix.Unshare(unix.CLONE_FS)
		}
		for r := range m.requests {
			if err != nil {
				r.done <- fmt.Errorf("a thread for mounts: %w", err)
				continue
			}
			lost := error(nil)
			merr := enter(r.pidfd, func() error {
				merr := moveAll(r.trees)
				lost = unix.Setns(home, unix.CLONE_NEWNS)
				return merr
			})
			r.done <- merr
			if lost != nil {
				over <- false
				return
			}
		}
		over <- true
	}()
	return <-over
}

// enter runs f in the mount namespace of a process. f must leave it.
func enter(pidfd *os.File, f func() error) error {
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.Setns(int(fd), unix.CLONE_NEWNS); err == nil {
			err = f()
		} else {
			err = fmt.Errorf("enter the mount namespace: %w", err)
		}
	})
	return errors.Join(err, cerr)
}

// moveAll puts the trees in their places. Links are not followed: the directories were made by the driver, and nothing inside
// can have replaced them, since the root is read-only; this is the second line.
func moveAll(trees []tree) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	for _, t := range trees {
		target, err := unix.Openat2(unix.AT_FDCWD, t.target, &how)
		if err != nil {
			return &os.PathError{Op: "open", Path: t.target, Err: err}
		}
		err = unix.MoveMount(t.fd, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		unix.Close(target)
		if err != nil {
			return &os.PathError{Op: "move_mount", Path: t.target, Err: err}
		}
	}
	return nil
}

// close ends the threads. Requests come to an end first.
func (m *mounter) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return
	}
	m.closed = true
	close(m.requests)
	m.threads.Wait()
}
