package runtimes

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// # Parking
//
// A Frames bootstrap that finds ParkVariable in its environment gets ready for whatever function comes, says so with the
// frame 'P' (empty), and waits for two frames:
//
//	'T' take   u8 flags (1: layers are to be seen at /opt) · how the environment of the function's process differs from this
//	           one's, separated by NUL bytes: NAME=VALUE for what is to be set, NAME for what is not to be there
//	'G' go     empty: the function's files are in their places, and its code may run
//
// It then becomes a process that was started with that environment, in the function's directory, and goes on as one: the
// frames of package runtimeapi follow. There are two, so that the process wakes up and makes its environment while
// the files are mounted; 'G' may follow 'T' at once.
const (
	ParkVariable = "_BERTH_PARK"

	frameParked = 'P'
	frameTake   = 'T'
	frameGo     = 'G'

	flagLayers = 1
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

// ofShells are variables that a shell may have changed that started the interpreter: what a process has of these nobody knows.
var ofShells = []string{"PWD", "OLDPWD", "SHLVL", "_"}

// TakeFrame is the frame that tells a bootstrap that was started with the environment has that it is to be a function's, whose
// environment is env. Both are NAME=VALUE; no string of env holds a NUL byte.
func TakeFrame(has, env []string, layers bool) []byte {
	had := make(map[string]string, len(has))
	for _, pair := range has {
		name, value, _ := strings.Cut(pair, "=")
		had[name] = value
	}
	for _, name := range ofShells {
		had[name] = "\x00"
	}
	frame := make([]byte, 6, 1<<10)
	for _, pair := range env {
		name, value, sets := strings.Cut(pair, "=")
		if old, found := had[name]; sets && (!found || old != value) {
			frame = append(append(frame, pair...), 0)
		}
		delete(had, name)
	}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		frame = append(append(frame, name...), 0)
	}
	if len(frame) > 6 {
		frame = frame[:len(frame)-1]
	}
	binary.LittleEndian.PutUint32(frame, uint32(len(frame)-4))
	frame[4] = frameTake
	if layers {
		frame[5] = flagLayers
	}
	return frame
}

// GoFrame is the frame that ends the wait.
func GoFrame() []byte { return []byte{1, 0, 0, 0, frameGo} }

// startOnly are variables, or beginnings of them, that are read when a process starts or its runtime boots: by the linker, the
// C library, the interpreters, OpenSSL and ICU, and Berth's bootstraps. What is in doubt is here: a function that sets one is
// only started more slowly.
var startOnly = []string{
	"LD_", "MALLOC_", "GLIBC_", "GCONV_PATH", "LOCPATH", "NLSPATH", "GETCONF_DIR", "RES_OPTIONS", "HOSTALIASES", "LOCALDOMAIN",
	"LC_", "LANG", "LANGUAGE", "PYTHON", "NODE_", "UV_", "V8_", "ICU_", "OPENSSL_", "SSL_", "SSLKEYLOGFILE", "AWS_LAMBDA_EXEC_WRAPPER",
	"_BERTH_", "NO_COLOR", "FORCE_COLOR", "TMPDIR", "LAMBDA_",
	"PWD", "OLDPWD", "SHLVL", // the shell that starts Node has its own idea of these
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
