package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/code"
	"berth/lambda"
	"berth/logs"
	"berth/runtimes"
	"berth/sandbox"
	"berth/sandbox/fake"
	"berth/store"
	realworker "berth/worker"
)

// real is a worker of package worker. Its runtime initialises and answers when it is told to.
type real struct {
	*realworker.Worker
	*heard
	version *lambda.Version
	driver  *fake.Driver
	open    chan struct{} // closed: runtimes initialise
	answers chan struct{} // one for each call that may end
	events  atomic.Int64  // that the runtime has got
	before  int64         // events when the last call began
}

func newReal(t *testing.T) *real {
	r := &real{heard: &heard{}, open: make(chan struct{}), answers: make(chan struct{}, 10)}
	r.driver = fake.New(r.program)
	cache, digest := smallCode(t)
	r.version = &lambda.Version{Code: digest, Runtime: "python3.11", Handler: "h.h", EphemeralMB: 512}
	w, err := realworker.New(realworker.Config{
		ID: "w1", Driver: r.driver, Runtimes: oneRuntime{}, Code: cache, Logs: noLogs{}, IdleFreeze: -1, Lease: time.Hour,
		Owners:      func(lambda.ManagerID) realworker.Owner { return r.heard },
		MemoryBytes: 128<<20 + realworker.EnvironmentOverhead,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Worker = w
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := r.driver.Calls(fake.OpExec); n > 1 {
			t.Errorf("the runtime was started %d times: the worker has found fault with it", n)
		}
	})
	return r
}

// program speaks frames, see package runtimeapi.
func (r *real) program(p *fake.Process) sandbox.Exit {
	in, out := interruptible(p.Extra[0]), p.Extra[1]
	defer in.Close()
	stop := context.AfterFunc(p.Context, func() { in.Close() })
	defer stop()
	wait := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		case <-p.Context.Done():
			return false
		}
	}
	ok := wait(r.open) && say(out, 'N', "")
	for ok && skipEvent(in) {
		r.events.Add(1)
		ok = wait(r.answers) && say(out, 'R', "1") // which asks for the next event too
	}
	return sandbox.Exit{}
}

// interruptible makes a file whose reads end when it is closed.
func interruptible(f *os.File) *os.File {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		panic(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

func say(out io.Writer, kind byte, body string) bool {
	frame := append(binary.LittleEndian.AppendUint32(nil, uint32(1+len(body))), kind)
	_, err := out.Write(append(frame, body...))
	return err == nil
}

func skipEvent(in io.Reader) bool {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		return false
	}
	_, err := io.CopyN(io.Discard, in, int64(binary.LittleEndian.Uint32(size[:])))
	return err == nil
}

func (r *real) request(broken bool) {
	if broken {
		r.driver.Fail(fake.OpCreate, errors.New("broken"))
	}
}

// Start fills in what the simulation does without.
func (r *real) Start(ctx context.Context, req lambda.StartRequest) error {
	v := *r.version
	v.Account, v.Function, v.Number, v.ConfigID = req.Version.Account, req.Version.Function, req.Version.Number, req.Version.ConfigID
	v.State, v.MemoryMB, v.Timeout = req.Version.State, req.Version.MemoryMB, req.Version.Timeout
	req.Version = &v
	return r.Worker.Start(ctx, req)
}

func (r *real) ready() {
	select {
	case <-r.open:
	default:
		close(r.open)
	}
	eventually(func() bool { return r.starting() == 0 })
}

func (r *real) starting() int { return r.Stats().Environments[realworker.Starting] }

// patience is how long to wait for what must come, however slow the machine is.
const patience = 30 * time.Second

func eventually(done func() bool) bool {
	for limit := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			return false
		}
	}
	return true
}

// claiming is how long a call may take from its look at its context until it waits for an environment that is starting, a few
// instructions later: nothing tells when it does.
const claiming = 100 * time.Millisecond

func (r *real) asks() { r.before = r.events.Load() }

func (r *real) taken(looked <-chan struct{}, refused func() bool, expected bool) bool {
	if !expected {
		return !eventually(refused)
	}
	eventually(func() bool { return refused() || len(looked) > 0 })
	if r.starting() > 0 {
		time.Sleep(claiming)
		return !refused()
	}
	eventually(func() bool { return refused() || r.events.Load() > r.before })
	return !refused()
}

func (r *real) finish() { r.answers <- struct{}{} }

func (r *real) settle(done func() bool) bool { return eventually(done) }

type oneRuntime struct{}

func (oneRuntime) Find(string) (*runtimes.Runtime, error) {
	return &runtimes.Runtime{Name: "python3.11", Command: []string{"/var/lang/bin/python3"}, Frames: true}, nil
}

type noLogs struct{}

func (noLogs) Append(lambda.AccountID, string, ...logs.Event) {}

// smallCode is a cache with one tree.
func smallCode(t *testing.T) (*code.Cache, lambda.CodeDigest) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "h.py"), []byte("h = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	zip, err := code.Zip(dir)
	if err != nil {
		t.Fatal(err)
	}
	digest := lambda.CodeDigest(fmt.Sprintf("%x", sha256.Sum256(zip)))
	cache, err := code.NewCache(code.CacheConfig{Dir: t.TempDir(), Blobs: oneBlob{digest: digest, zip: zip}})
	if err != nil {
		t.Fatal(err)
	}
	return cache, digest
}

type oneBlob struct {
	store.Blobs
	digest lambda.CodeDigest
	zip    []byte
}

func (b oneBlob) Open(_ context.Context, d lambda.CodeDigest) (io.ReadCloser, error) {
	if d != b.digest {
		return nil, store.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b.zip)), nil
}
