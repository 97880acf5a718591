package runtimes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// # Parking
//
// A Frames bootstrap that finds ParkVariable in its environment gets ready for whatever function comes, says so with the
// frame 'P' (empty), and waits for one frame
//
//	'T' take   the environment of the function's process: NAME=VALUE, separated by NUL bytes
//
// It then becomes a process that was started with that environment, in the function's directory, which was mounted
// meanwhile, and goes on as one: the frames of package runtimeapi follow.
const (
	ParkVariable = "_BERTH_PARK"

	frameParked = 'P'
	frameTake   = 'T'
)

// AwaitParked waits until the bootstrap at the other end is parked.
func AwaitParked(r io.Reader) error {
	var frame [5]byte
	if _, err := io.ReadFull(r, frame[:]); err != nil {
		return fmt.Errorf("the runtime ended before it was parked: %w", err)
	}
	if binary.LittleEndian.Uint32(frame[:]) != 1 || frame[4] != frameParked {
		return errors.New("the runtime broke the protocol of parking")
	}
	return nil
}

// TakeFrame is the frame that ends the wait. No string of env holds a NUL byte.
func TakeFrame(env []string) []byte {
	size := 0
	for _, pair := range env {
		size += len(pair) + 1
	}
	frame := make([]byte, 0, 5+size)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(max(1, size)))
	frame = append(frame, frameTake)
	return append(frame, strings.Join(env, "\x00")...)
}

// startOnly are variables, or beginnings of them, that are read when a process starts or its runtime boots: by the linker, the
// C library, the interpreters, OpenSSL and ICU, and Berth's bootstraps. What is in doubt is here: a function that sets one is
// only started more slowly.
var startOnly = []string{
	"LD_", "MALLOC_", "GLIBC_", "GCONV_PATH", "LOCPATH", "NLSPATH", "GETCONF_DIR", "RES_OPTIONS", "HOSTALIASES", "LOCALDOMAIN",
	"LC_", "LANG", "LANGUAGE", "PYTHON", "NODE_", "UV_", "V8_", "ICU_", "OPENSSL_", "SSL_", "SSLKEYLOGFILE", "AWS_LAMBDA_EXEC_WRAPPER",
	"_BERTH_", "NO_COLOR", "FORCE_COLOR", "TMPDIR", "LAMBDA_",
}

// CanTake reports whether a parked sandbox does for a function with these variables of its own. With one that only counts at
// the start of a process it does not; runtimes without a bootstrap start their process when the sandbox is taken.
func (r *Runtime) CanTake(env map[string]string) bool {
	if !r.Parks {
		return false
	}
	if !r.Frames {
		return true
	}
	for name := range env {
		for _, start := range startOnly {
			if strings.HasPrefix(name, start) {
				return false
			}
		}
	}
	return true
}
