package namespace

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Packets between daemon, spawner and init; init/wire.h is the other side, TestWireConstants compares the two.
const (
	maxPacket   = 160 << 10
	maxFDs      = 96
	maxChildren = 64
	headLen     = 16

	msgSpawn     = 1
	msgSpawned   = 2
	msgSetup     = 10
	msgGo        = 11
	msgMapped    = 12
	msgExec      = 13
	msgSignal    = 14
	msgSignalAll = 15
	msgKill      = 16
	msgListen    = 17
	msgSocket    = 18
	msgPrepare   = 19
	msgUnshared  = 30
	msgReady     = 31
	msgFailed    = 32
	msgExit      = 33
	msgStarted   = 34
	msgDone      = 35
	msgListening = 36

	spawnRootless = 1
	spawnCgroup   = 2
	setupRootless = 1
)

// packet is one message. Descriptors of a sent packet stay the sender's; those of a received one are the receiver's.
type packet struct {
	kind, id, a, b uint32
	body           []byte
	fds            []int
}

// conn is the daemon's end of a SOCK_SEQPACKET pair, driven by Go's poller: a waiting reader costs no thread.
type conn struct {
	file *os.File
	raw  syscall.RawConn
}

// socketPair returns the daemon's end and the descriptor of the other, both close-on-exec.
func socketPair(name string) (*conn, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	file := os.NewFile(uintptr(fds[0]), name)
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		unix.Close(fds[1])
		return nil, -1, fmt.Errorf("socketpair: %w", err)
	}
	return &conn{file: file, raw: raw}, fds[1], nil
}

func (c *conn) close() { c.file.Close() }

func (c *conn) deadline(t time.Time) error { return c.file.SetDeadline(t) }

// encode is the packet without its descriptors.
func (p packet) encode() ([]byte, error) {
	buf := make([]byte, 0, headLen+len(p.body))
	for _, v := range [...]uint32{p.kind, p.id, p.a, p.b} {
		buf = binary.NativeEndian.AppendUint32(buf, v)
	}
	buf = append(buf, p.body...)
	if len(buf) > maxPacket || len(p.fds) > maxFDs {
		return nil, fmt.Errorf("packet of %d bytes and %d descriptors: the limits are %d and %d", len(buf), len(p.fds), maxPacket, maxFDs)
	}
	return buf, nil
}

func (c *conn) send(p packet) error {
	buf, err := p.encode()
	if err != nil {
		return err
	}
	var oob []byte
	if len(p.fds) > 0 {
		oob = unix.UnixRights(p.fds...)
	}
	if werr := c.raw.Write(func(fd uintptr) bool {
		_, err = again(func() (int, error) { return 0, unix.Sendmsg(int(fd), buf, oob, nil, unix.MSG_NOSIGNAL) })
		return err != unix.EAGAIN
	}); werr != nil {
		return werr
	}
	return err
}

// receive waits for one packet. The peer's messages to the daemon are short; longer ones are refused.
func (c *conn) receive() (packet, error) {
	var buf [512]byte
	var oob [64]byte // room for some descriptors; the peers send one at most
	var n, oobn, flags int
	var err error
	if rerr := c.raw.Read(func(fd uintptr) bool {
		n, err = again(func() (got int, err error) {
			got, oobn, flags, _, err = unix.Recvmsg(int(fd), buf[:], oob[:], unix.MSG_CMSG_CLOEXEC)
			return got, err
		})
		return err != unix.EAGAIN
	}); rerr != nil {
		return packet{}, rerr
	}
	if err != nil {
		return packet{}, err
	}
	p := packet{fds: rights(oob[:oobn])}
	if n == 0 {
		return packet{}, unix.ECONNRESET
	}
	if n < headLen || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(p.fds) > 1 {
		p.closeFDs()
		return packet{}, fmt.Errorf("malformed packet of %d bytes from the init", n)
	}
	p.kind = binary.NativeEndian.Uint32(buf[0:])
	p.id = binary.NativeEndian.Uint32(buf[4:])
	p.a = binary.NativeEndian.Uint32(buf[8:])
	p.b = binary.NativeEndian.Uint32(buf[12:])
	if n > headLen {
		p.body = append([]byte(nil), buf[headLen:n]...)
	}
	return p, nil
}

func rights(oob []byte) []int {
	if len(oob) == 0 {
		return nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var all []int
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

func (p *packet) closeFDs() {
	for _, fd := range p.fds {
		unix.Close(fd)
	}
	p.fds = nil
}
