package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"berth/lambda"
	"berth/runtimeapi"
	"berth/sandbox"
)

// apiAddress is where a function finds the Runtime API (AWS_LAMBDA_RUNTIME_API); recorded 18-02-2026.
var apiAddress = netip.MustParseAddrPort("169.254.100.1:9001")

// Limits of one sandbox that do not come from the function's configuration.
const (
	mbPerCore      = 1769 // memory that comes with one core; developer guide
	initCPUs       = 2.0  // processor share of the init phase, in cores: a function starts as fast as it can, whatever its size
	maxPIDs        = 1024 // processes and threads; developer guide, "execution processes/threads"
	taskRoot       = "/var/task"
	layerRoot      = "/opt"
	startLimit     = time.Minute       // for all before the runtime process; a large zip that comes from afar takes the most of it
	aheadInitLimit = 130 * time.Second // for an init phase that nobody waits for, or the function's timeout if longer; developer guide
)

// startSteps make an environment, in this order; they are undone in the reverse order. Each undo is safe when its step
// was not done.
var startSteps = []struct {
	name string
	do   func(*environment, context.Context) error
	undo func(*environment)
}{
	{"find the runtime", (*environment).findRuntime, func(*environment) {}},
	{"get the code", (*environment).getCode, (*environment).dropCode},
	{"make the sandbox", (*environment).makeSandbox, (*environment).destroySandbox},
	{"make the extensions' host", (*environment).openExtensions, (*environment).closeExtensions},
	{"open the log pipe", (*environment).openOutput, (*environment).closeOutput},
	{"open the Runtime API", (*environment).openAPI, (*environment).closeAPI},
	{"initialise the runtime", (*environment).initPhase, (*environment).endExtensions}, // the processes end with the sandbox
	{"limit the processor share", (*environment).limitCPU, func(*environment) {}},
}

// start runs the steps and hands the turn on, or takes apart what there is.
func (e *environment) start() {
	ctx, cancel := context.WithTimeout(e.ctx, startLimit+e.initLimit())
	defer cancel()
	if e.w.parked != nil {
		defer e.w.parked.Hold()()
	}
	var err error
	if e.turn, err = e.w.turns.enter(e.ctx, e.version, e.ahead); err != nil {
		e.startFailed("wait for its turn", err)
		return
	}
	for _, step := range startSteps {
		err := ctx.Err()
		if err == nil {
			err = step.do(e, ctx)
		}
		if err != nil {
			e.turn.leave()
			e.startFailed(step.name, err)
			return
		}
	}
	e.turn.leave()
	e.w.cold.Add(1)
	if e.ready() {
		e.takeApart()
	}
}

// errInitFailed ends an environment that was made ahead of use and whose function failed to initialise: there is no
// invocation to show the failure to.
var errInitFailed = errors.New("the function failed to initialise; its log says why")

// startFailed tells the operator and the waiting caller. A function's own failure to initialise gets here only when the
// environment was made ahead: else that is an outcome of its next invocation.
func (e *environment) startFailed(step string, err error) {
	switch {
	case errors.Is(err, errInitFailed):
		e.log.Info("environment was not provisioned", "error", err)
	case e.ctx.Err() == nil:
		e.log.Error("environment could not be started", "step", step, "error", err)
	}
	var known *lambda.Error
	if errors.As(err, &known) {
		marked := *known
		marked.NotStarted = true
		err = fmt.Errorf("%w (%s: %w)", &marked, step, err)
	} else {
		known = lambda.Errorf(lambda.ServiceFailure, "the function's environment could not be started; the server's log says why")
		known.NotStarted = true
		if errors.Is(err, sandbox.ErrUnsupported) { // says what the host lacks
			known.Message = "the function's environment could not be started: " + err.Error()
		}
		err = fmt.Errorf("%w (%s: %w)", known, step, err)
	}
	e.failed(err)
	close(e.started)
	if e.ctx.Err() == nil { // one that was ended on purpose is simply not there: its call may try another
		e.w.failures.add(e.id, err)
	}
	e.takeApart()
}

func (e *environment) findRuntime(ctx context.Context) (err error) {
	if e.version.Image != nil {
		return e.findImage(ctx)
	}
	e.runtime, e.installed, err = e.w.openRuntime(ctx, e.version.Runtime, e.key.Runtime)
	return err
}

func (e *environment) getCode(ctx context.Context) (err error) {
	if e.version.Image != nil {
		return nil // findRuntime has it
	}
	e.tree, err = e.w.cfg.Code.Tree(ctx, e.version.Code)
	if err == nil && len(e.version.Layers) > 0 {
		e.layers, err = e.w.cfg.Code.Merged(ctx, e.version.Layers)
	}
	return err
}

func (e *environment) dropCode() {
	if e.tree != nil {
		e.tree.Release()
	}
	if e.layers != nil {
		e.layers.Release()
	}
	if e.installed != nil {
		e.installed.Release()
	}
}

// ownMounts are what the sandbox shows of the function: the code, and the layers if it has any. An image is all mounts.
func (e *environment) ownMounts() []sandbox.Mount {
	if e.version.Image != nil {
		return nil
	}
	mounts := []sandbox.Mount{{Source: e.tree.Path, Target: taskRoot}}
	if e.layers != nil {
		mounts = append(mounts, sandbox.Mount{Source: e.layers.Path, Target: layerRoot})
	}
	return mounts
}

func (e *environment) makeSandbox(ctx context.Context) (err error) {
	v := e.version
	e.lines = newLogStream(e.w.cfg.Logs, v, e.id, e.runtime) // the runtime is told its name
	limits := sandbox.Limits{
		MemoryBytes:  int64(v.MemoryMB) << 20,
		CPUs:         max(initCPUs, cpuShare(v)),
		PIDs:         maxPIDs,
		ScratchBytes: int64(v.EphemeralMB) << 20,
	}
	if e.takeParked(ctx, limits) {
		e.turn.uses(e.sandbox)
		return nil
	}
	e.sandbox, err = e.w.cfg.Driver.Create(ctx, sandbox.Spec{
		ID:     string(e.id),
		Mounts: slices.Concat(e.runtime.Mounts, e.ownMounts()),
		Limits: limits,
	})
	if err == nil {
		e.turn.uses(e.sandbox)
	}
	return err
}

// cpuShare is a version's processor share in cores; it follows the memory size, as on Lambda.
func cpuShare(v *lambda.Version) float64 { return float64(v.MemoryMB) / mbPerCore }

// boostLinger is how much longer than its init phase a function keeps the processor share of it.
const boostLinger = 10 * time.Millisecond

// limitCPU ends the boost of the init phase, a moment later: while the first invocation wants the processors, the kernel takes
// half a millisecond for it, and a short invocation is done by then.
func (e *environment) limitCPU(context.Context) error {
	share := cpuShare(e.version)
	if share >= initCPUs {
		return nil
	}
	box := e.sandbox
	e.w.live.Go(func() {
		linger := time.NewTimer(boostLinger)
		defer linger.Stop()
		select {
		case <-linger.C:
		case <-e.ctx.Done():
			return
		}
		ctx, cancel := sandboxContext()
		defer cancel()
		if err := box.SetCPUs(ctx, share); err != nil && !errors.Is(err, sandbox.ErrGone) {
			e.broken("its processor share could not be limited", err)
		}
	})
	return nil
}

func (e *environment) destroySandbox() {
	if e.sandbox == nil {
		return
	}
	ctx, cancel := sandboxContext()
	defer cancel()
	if err := e.sandbox.Destroy(ctx); err != nil {
		e.log.Error("sandbox was not destroyed cleanly; the next start of the server sweeps what is left", "error", err)
	}
	if e.parked != nil {
		e.parked.close()
	}
}

func (e *environment) openOutput(context.Context) error {
	var out *output
	var err error
	if e.parked != nil {
		out, e.parked.out = e.parked.out, nil
	} else if out, err = openOutput(); err != nil {
		return err
	}
	e.lines.tap = e.ext
	out.logStream = e.lines
	e.out = out
	e.w.live.Go(out.follow)
	return nil
}

func (e *environment) closeOutput() {
	if e.extOut != nil {
		e.extOut.close()
	}
	if e.out != nil {
		e.out.close()
	}
}

// openAPI serves the Runtime API over HTTP, for runtimes on frames as well: functions and wrappers may call it, and it
// costs 25 µs.
func (e *environment) openAPI(ctx context.Context) error {
	config := runtimeapi.Config{FunctionARN: e.version.FunctionARN(), Version: e.version.Number, Log: e.w.cfg.Log, Other: e.ext}
	if n := len(e.external); n > 0 {
		config.Conns = runtimeapi.UsualConns + n*connsPerExtension
	}
	e.api = runtimeapi.New(config)
	var listener net.Listener
	var err error
	if e.parked != nil {
		listener, e.parked.listener = e.parked.listener, nil
	} else if listener, err = e.sandbox.Listen(ctx, apiAddress); err != nil {
		return err
	}
	e.server = e.api.NewServer()
	e.w.live.Go(func() {
		if err := e.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			e.log.Error("Runtime API stopped serving", "error", err)
		}
	})
	return nil
}

func (e *environment) closeAPI() {
	if e.api != nil {
		e.api.Close()
	}
	if e.server != nil {
		e.server.Close() // also the listener
	}
}

// initPhase is the first start of the runtime process, limited to lambda.InitTimeout. When the function fails it, the
// environment is nevertheless ready: the next invocation starts the runtime again ("suppressed init"; developer guide).
// initLimit bounds the init phase.
func (e *environment) initLimit() time.Duration {
	if e.ahead {
		return max(aheadInitLimit, e.version.Timeout)
	}
	return e.w.initLimit
}

func (e *environment) initPhase(context.Context) error {
	began := time.Now()
	e.out.initStart(began)
	deadline := began.Add(e.initLimit())
	failure, err := e.boot(deadline, "init")
	if err != nil {
		return err
	}
	e.initTime = time.Since(began)
	e.tellInit("init", failure, e.initTime)
	if err := e.windDown(); err != nil {
		return err
	}
	e.out.drain(time.Now()) // what was printed meanwhile belongs before the first START
	if failure != nil {
		e.out.initReport(time.Now(), e.initTime, "init", failure)
		e.initTime = 0
		if e.ahead {
			return errInitFailed
		}
		return nil
	}
	e.out.initDone(time.Now(), e.initTime)
	return nil
}
