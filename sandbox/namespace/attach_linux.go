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
// enters the sandbox's to put them in their places (mounter). Nothing of the sandbox takes part: its init has no power over mounts.
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
		if err := b.group.change(a.Limits, extra); err != nil {
			return fmt.Errorf("attach to sandbox %s: %w", b.id, err)
		}
	}
	b.spec.Limits = a.Limits
	if err := b.d.mounter.mount(b.pidfd, trees); err != nil {
		return fmt.Errorf("attach to sandbox %s: %w", b.id, err)
	}
	return nil
}

// tree is a detached mount and where it goes.
type tree struct {
	fd     int
	target string
}

// openTree returns a detached mount that shows a file or tree of the host, read-only and without devices.
func openTree(source string) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "mount_setattr", Path: source, Err: err}
	}
	return fd, nil
}

// trees makes the detached mounts, also a /tmp of another size. What it returns is to be closed, after an error too.
func (b *box) trees(ctx context.Context, a sandbox.Attachment) ([]tree, error) {
	var all []tree
	for _, m := range a.Mounts {
		fd, err := openTree(m.Source)
		if err != nil {
			return all, err
		}
		all = append(all, tree{fd, m.Target})
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

// mounter moves mounts into sandboxes. A goroutine of its own locks its thread, gives it a root and directory of its own
// (which entering a mount namespace takes), enters, moves, and comes home. Go starts no thread from a locked one, so none is
// born in a sandbox; a thread that could not come home ends with its goroutine. Meanwhile it runs system calls only, never code
// or data of a sandbox. A fixed thread for this would cost two wake-ups, each as dear as the mount.
type mounter struct {
	home func() (place, error)
}

// place is where the daemon's threads are. Entering a namespace, the own one too, makes its root the root and the directory.
type place struct{ namespace, root, dir int }

func findPlace() (p place, err error) {
	for name, fd := range map[string]*int{"/proc/self/ns/mnt": &p.namespace, "/": &p.root, ".": &p.dir} {
		flags := unix.O_PATH | unix.O_CLOEXEC
		if fd == &p.namespace {
			flags = unix.O_RDONLY | unix.O_CLOEXEC
		}
		if *fd, err = unix.Open(name, flags, 0); err != nil {
			return p, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
	return p, nil
}

// enter brings the calling thread there, back to where all others are.
func (p place) enter() error {
	err := unix.Setns(p.namespace, unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Fchdir(p.root)
	}
	if err == nil {
		err = unix.Chroot(".")
	}
	if err == nil {
		err = unix.Fchdir(p.dir)
	}
	return err
}

func newMounter() *mounter {
	return &mounter{home: sync.OnceValues(findPlace)}
}

func (m *mounter) mount(pidfd *os.File, trees []tree) error {
	if len(trees) == 0 {
		return nil
	}
	home, err := m.home()
	if err != nil {
		return fmt.Errorf("the daemon's own place: %w", err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var lost error
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = enter(pidfd, func() error {
				err := moveAll(trees)
				lost = home.enter()
				return err
			})
		}
		if lost == nil {
			runtime.UnlockOSThread()
		}
		done <- errors.Join(err, lost)
	}()
	return <-done // system calls that wait for nobody
}

// close lets go of the place. No mount is under way.
func (m *mounter) close() {
	if home, err := m.home(); err == nil {
		for _, fd := range []int{home.namespace, home.root, home.dir} {
			unix.Close(fd)
		}
	}
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
