package namespace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spawnLimit bounds one request to the spawner; a clone takes about a millisecond.
const spawnLimit = 5 * time.Second

// spawner is the daemon's handle of the process that clones inits (init/spawn.c says why it exists). It is started by the
// first request. When it dies, all sandboxes die with it, and the next request starts another.
type spawner struct {
	binary []byte

	mu   sync.Mutex // one request at a time: the spawner serves one anyway
	conn *conn      // nil: not running
	cmd  *exec.Cmd
}

// spawn clones one init with the given control socket, into the cgroup v2 directory if that is not -1.
func (s *spawner) spawn(ctx context.Context, ctl, cgroup int, rootless bool) (pid, pidfd int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, -1, err
	}
	request := packet{kind: msgSpawn, fds: []int{ctl}}
	if rootless {
		request.a |= spawnRootless
	}
	if cgroup >= 0 {
		request.a |= spawnCgroup
		request.fds = append(request.fds, cgroup)
	}
	for fresh := false; ; {
		if s.conn == nil {
			if err := s.start(); err != nil {
				return 0, -1, err
			}
			fresh = true
		}
		s.conn.deadline(time.Now().Add(spawnLimit))
		if err = s.conn.send(request); fresh || !errors.Is(err, unix.EPIPE) {
			break
		}
		s.stopLocked() // it had died, and has not seen the request: another one can take it
	}
	var answer packet
	if err == nil {
		answer, err = s.conn.receive()
	}
	if err == nil && (answer.kind != msgSpawned || answer.b == 0 && len(answer.fds) != 1) {
		answer.closeFDs()
		err = fmt.Errorf("unexpected answer %d", answer.kind)
	}
	if err != nil {
		s.stopLocked()
		return 0, -1, fmt.Errorf("sandbox spawner: %w", err)
	}
	if answer.b != 0 {
		answer.closeFDs()
		return 0, -1, fmt.Errorf("clone: %w", syscall.Errno(answer.b))
	}
	return int(answer.a), answer.fds[0], nil
}

// start runs the init's executable from a sealed memory file: nobody, not even a root process of a sandbox that broke out of
// its user namespace, can change it under us, and nothing is left on disk.
func (s *spawner) start() error {
	program, err := sealed(s.binary)
	if err != nil {
		return err
	}
	defer program.Close()
	ours, theirs, err := socketPair("sandbox-spawner")
	if err != nil {
		return err
	}
	control := os.NewFile(uintptr(theirs), "sandbox-spawner")
	defer control.Close()
	s.cmd = &exec.Cmd{
		Path:        fmt.Sprintf("/proc/self/fd/%d", program.Fd()),
		Args:        []string{"berth-init"},
		Env:         []string{}, // not nil: nil would inherit
		Dir:         "/",
		ExtraFiles:  []*os.File{control},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := s.cmd.Start(); err != nil {
		ours.close()
		return fmt.Errorf("start the sandbox spawner: %w", err)
	}
	s.conn = ours
	return nil
}

// stop ends the spawner, and with it every sandbox that is left.
func (s *spawner) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopLocked()
}

func (s *spawner) stopLocked() {
	if s.conn == nil {
		return
	}
	s.conn.close()
	s.conn = nil
	s.cmd.Process.Kill() // end-of-file on its socket ends it as well; this one also works when it is stuck
	var exit *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return // nothing to wait for
	}
}

// sealed puts a program into a memory file that cannot be written any more.
func sealed(program []byte) (*os.File, error) {
	const execFlag = 0x10 // MFD_EXEC: kernels from 6.3 on want to be told
	fd, err := unix.MemfdCreate("berth-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|execFlag)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("berth-init", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("memory file for the sandbox init: %w", err)
	}
	// The child's descriptors 0-3 are replaced before exec looks the path up; keep clear of them.
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 16)
	unix.Close(fd)
	if err != nil {
		return nil, fmt.Errorf("memory file for the sandbox init: %w", err)
	}
	file := os.NewFile(uintptr(high), "berth-init")
	if _, err := file.Write(program); err != nil {
		file.Close()
		return nil, fmt.Errorf("memory file for the sandbox init: %w", err)
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		file.Close()
		return nil, fmt.Errorf("seal the sandbox init: %w", err)
	}
	return file, nil
}
