package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"berth/code"
	"berth/lambda"
	"berth/parked"
	"berth/runtimeapi"
	"berth/runtimes"
	"berth/sandbox"
)

const (
	parkedShare   = 20      // of a worker's memory, one part in so many may be held by sandboxes that wait
	parkedMemory  = 128     // limit in MB of a sandbox that waits: the least that a function has
	parkedScratch = 512     // size in MB of its /tmp: what nearly all functions have
	parkedFloor   = 3 << 20 // bytes that one holds at least, kernel objects included
	parkLimit     = 20 * time.Second
	yieldLimit    = 2 * time.Second // on a machine that is never idle, what yields would never boot
	handOverLimit = 5 * time.Second // for the kernel to take some kilobytes; a runtime that is stuck is killed
)

// lateMounts are what a sandbox that waits gets later, and the directories in them where the C library looks for libraries
// (LD_LIBRARY_PATH): those that are missing when a process first looks it never looks into again.
var lateMounts = []string{taskRoot, taskRoot + "/lib", layerRoot, layerRoot + "/lib"}

// parkedKind is what one parked sandbox is good for.
type parkedKind struct {
	runtime  string
	version  lambda.RuntimeVersionID
	memoryMB int // 0 unless the runtime needs to know it when it starts
}

// LogValue implements slog.LogValuer.
func (k parkedKind) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("%s %d MB", k.runtime, k.memoryMB))
}

// kindOf is the kind of sandbox that version v can take; false if it needs one that is made for it.
func kindOf(rt *runtimes.Runtime, v *lambda.Version) (parkedKind, bool) {
	kind := parkedKind{runtime: rt.Name, version: rt.Version}
	if rt.Sized {
		kind.memoryMB = v.MemoryMB
	}
	return kind, rt.CanTake(v.Env)
}

// parkedSandbox is a complete sandbox that waits for its one environment: namespaces, limits, listener, and the booted
// runtime if there is one. Fields become nil as the environment takes them over.
type parkedSandbox struct {
	kind     parkedKind
	sandbox  sandbox.Sandbox
	listener net.Listener
	out      *output
	process  sandbox.Process // nil where the function brings the program
	env      []string        // of process
	conn     runtimeapi.Conn // of process
	told     error           // why process could not be told of its function
	bytes    int64
	tree     *code.Tree // of a runtime that is an image; nil for the host's
}

// Done implements parked.Item.
func (p *parkedSandbox) Done() <-chan struct{} {
	if p.process == nil {
		return nil
	}
	return p.process.Done()
}

// Bytes implements parked.Item.
func (p *parkedSandbox) Bytes() int64 { return p.bytes }

// Discard implements parked.Item: it frees what no environment has taken over.
func (p *parkedSandbox) Discard() {
	if p.sandbox != nil {
		ctx, cancel := sandboxContext()
		defer cancel()
		p.sandbox.Destroy(ctx) // failing, the next start of the server sweeps what is left
		p.sandbox = nil
	}
	p.close()
}

// close frees the files.
func (p *parkedSandbox) close() {
	if p.conn != nil {
		p.conn.Close()
	}
	if p.listener != nil {
		p.listener.Close()
	}
	if p.out != nil {
		p.out.discard()
	}
	if p.tree != nil {
		p.tree.Release()
	}
	p.conn, p.listener, p.out = nil, nil, nil
}

// park makes one.
func (w *Worker) park(ctx context.Context, kind parkedKind) (_ *parkedSandbox, err error) {
	ctx, cancel := context.WithTimeout(ctx, parkLimit)
	defer cancel()
	rt, tree, err := w.openRuntime(ctx, kind.runtime, kind.version)
	if err != nil {
		return nil, err
	}
	p := &parkedSandbox{kind: kind, tree: tree}
	defer func() {
		if err != nil {
			p.Discard()
		}
	}()
	memory := parkedMemory
	if rt.Sized {
		memory = kind.memoryMB
	}
	p.sandbox, err = w.cfg.Driver.Create(ctx, sandbox.Spec{
		ID:       "parked-" + randomHex(8),
		Mounts:   rt.Mounts,
		Late:     lateMounts,
		Prepared: !rt.Frames, // it waits for its program
		Limits:   sandbox.Limits{MemoryBytes: int64(memory) << 20, CPUs: initCPUs, PIDs: maxPIDs, ScratchBytes: parkedScratch << 20},
	})
	if err != nil {
		return nil, err
	}
	if p.listener, err = p.sandbox.Listen(ctx, apiAddress); err != nil {
		return nil, err
	}
	if p.out, err = openOutput(); err != nil {
		return nil, err
	}
	if rt.Frames {
		if err := p.boot(ctx, rt, memory, w.parked.Waiting(kind) > 0 || w.parked.Busy()); err != nil {
			return nil, err
		}
	}
	usage, err := p.sandbox.Usage(ctx)
	p.bytes = max(parkedFloor, usage.MemoryBytes)
	return p, err
}

// boot starts the runtime and waits until it waits. It may leave the processor to all others meanwhile: not while none of its kind is there, or
// the next call would have to boot one itself, but then too if that is because more starts are under way than can be made ahead.
func (p *parkedSandbox) boot(ctx context.Context, rt *runtimes.Runtime, memoryMB int, yields bool) error {
	ours, theirs, err := runtimeapi.Pipes()
	if err != nil {
		return err
	}
	p.conn = ours
	defer theirs.Close()
	p.env = parkedEnviron(rt, memoryMB)
	p.process, err = p.sandbox.Exec(ctx, sandbox.Command{
		Path: rt.Command[0], Args: rt.Command, Dir: taskRoot, Stdout: p.out.w, Stderr: p.out.w, Extra: theirs[:],
		Env: p.env,
	})
	if err != nil {
		return err
	}
	if yields {
		if err := p.sandbox.Yield(ctx, true); err != nil {
			return err
		}
	}
	theirs.Close() // so that the runtime's end is seen
	stop := context.AfterFunc(ctx, func() { ours.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if !yields {
		return runtimes.AwaitParked(ours)
	}
	box := p.sandbox
	hurry := time.AfterFunc(yieldLimit, func() { box.Yield(ctx, false) }) // failing, it takes longer
	err = runtimes.AwaitParked(ours)
	hurry.Stop()
	if err != nil {
		return err
	}
	return box.Yield(ctx, false)
}

// parkedEnviron is the environment of a runtime that waits: what is the same for all functions, to be told less later.
func parkedEnviron(rt *runtimes.Runtime, memoryMB int) []string {
	return append(environ(&lambda.Version{MemoryMB: memoryMB}, rt, "", nil, false), runtimes.ParkVariable+"="+rt.Ahead)
}

// takeParked completes a sandbox that waits, if there is one for e. A failure of it only costs time.
func (e *environment) takeParked(ctx context.Context, limits sandbox.Limits) bool {
	if e.w.parked == nil {
		return false
	}
	kind, can := kindOf(e.runtime, e.version)
	if !can {
		return false
	}
	p, ok := e.w.parked.Take(kind)
	if !ok {
		return false
	}
	e.tell(p) // now, so that it wakes up and makes its environment while the rest is done
	err := p.sandbox.Attach(ctx, sandbox.Attachment{Mounts: e.ownMounts(), Limits: limits})
	if err == nil {
		e.parked, e.sandbox = p, p.sandbox
		e.w.attached.Add(1)
		return true
	}
	if errors.Is(err, sandbox.ErrUnsupported) {
		e.log.Info("sandboxes are not made ahead: they cannot be completed later here", "runtime", kind.runtime, "error", err)
		e.w.parked.Refuse(kind)
	} else if ctx.Err() == nil {
		e.log.Warn("a sandbox that was made ahead could not be used; another is made", "sandbox", p.sandbox.ID(), "error", err)
	}
	e.w.live.Go(p.Discard)
	return false
}

// tell gives the parked runtime the environment of its function, before its files are there.
func (e *environment) tell(p *parkedSandbox) {
	if p.process != nil {
		p.told = p.write(runtimes.TakeFrame(p.env, e.environ(), e.layers != nil))
	}
}

// write gives the parked runtime a frame.
func (p *parkedSandbox) write(frame []byte) error {
	err := p.conn.SetWriteDeadline(time.Now().Add(handOverLimit))
	if err == nil {
		_, err = p.conn.Write(frame)
	}
	return err
}

// handOver lets the parked runtime run its function. nil without an error: it did not take it, and one is to be started anew.
func (e *environment) handOver() *process {
	p := e.parked
	if p == nil || p.process == nil || p.conn == nil {
		return nil
	}
	err := p.told
	if err == nil {
		err = p.write(runtimes.GoFrame())
	}
	conn := p.conn
	p.conn = nil
	if err == nil {
		err = conn.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		e.log.Warn("a runtime that was started ahead is not there any more; it is started again", "error", err)
		if len(e.helpers) > 0 { // these live
			p.process.Signal(syscall.SIGKILL) // fails if it has ended
			return nil
		}
		ctx, cancel := sandboxContext()
		defer cancel()
		if err := e.sandbox.Kill(ctx); err != nil {
			e.log.Warn("the rest of a runtime that was started ahead could not be killed", "error", err)
		}
		return nil
	}
	return e.follow(p.process, conn)
}

// dropParked lets go of a parked runtime that was not given its function. Its process is killed by the caller.
func (e *environment) dropParked() {
	if e.parked != nil && e.parked.conn != nil {
		e.parked.conn.Close()
		e.parked.conn = nil
	}
}

// newParked makes the pool of a worker, nil if it is to have none.
func newParked(w *Worker) *parked.Pool[parkedKind, *parkedSandbox] {
	most := w.cfg.ParkedBytes
	if most == 0 {
		most = w.cfg.MemoryBytes / parkedShare
	}
	if most < 0 {
		return nil
	}
	return parked.New(parked.Config[parkedKind, *parkedSandbox]{Make: w.park, MaxBytes: most, Makers: w.cfg.ParkMakers, Log: w.log})
}

// keepParked lets the pool begin with the runtimes that this worker has.
func (w *Worker) keepParked() {
	for _, name := range w.cfg.ParkFor {
		rt, err := w.cfg.Runtimes.Find(name)
		if err != nil || !rt.Parks {
			continue
		}
		kind, _ := kindOf(rt, &lambda.Version{MemoryMB: parkedMemory})
		w.parked.Keep(kind)
	}
}
