package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"berth/extensions"
	"berth/lambda"
	"berth/runtimeapi"
	"berth/sandbox"
)

// exitGrace is how long a runtime that closed its channel may take to end by itself, so that its exit status is its own.
const exitGrace = time.Second

// lastWords is how long after its end a runtime's channel may take to be read to the end.
const lastWords = 50 * time.Millisecond

// process is one running runtime.
type process struct {
	sandbox.Process
	told    chan struct{}         // closed when the process has ended and the Runtime API knows
	initErr *runtimeapi.InitError // what it said of why it could not start, if it did; valid once told is closed
}

// ended reports whether the process is gone, without waiting.
func (p *process) ended() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// boot kills what runs, starts the runtime process and waits until it asks for an event, until deadline. A failure is the
// function's; an error is ours, and the environment cannot be used.
func (e *environment) boot(deadline time.Time, phase string) (*failure, error) {
	if err := e.reset(); err != nil {
		return nil, err
	}
	if f := e.checkEntrypoint(); f != nil {
		return f, nil
	}
	defer e.extensionsBegun()
	f, err := e.startExtensions(deadline, phase)
	switch {
	case err != nil:
		return nil, err
	case f != nil:
		return f, e.halt(f.reason())
	}
	return e.bootRuntime(deadline, phase)
}

// bootRuntime is boot after the external extensions.
func (e *environment) bootRuntime(deadline time.Time, phase string) (*failure, error) {
	p, err := e.launch()
	if err != nil {
		return e.notRunnable(err)
	}
	e.process = p
	ctx, err := e.limited(deadline)
	if err == nil {
		err = e.api.WaitReady(ctx)
	}
	late := e.limit.clear()

	var reported *runtimeapi.InitError
	var f *failure
	switch {
	case err == nil:
		f, err := e.awaitExtensions(deadline, phase)
		if f != nil && e.winding == "" && e.process != nil {
			err = e.halt(f.reason())
		}
		return f, err
	case e.ctx.Err() != nil:
		return nil, ErrStopped
	case errors.As(err, &reported):
		f = initFailure(reported)
	default:
		return e.interrupted(late, err)
	}
	return f, e.halt(extensions.Failed)
}

// notRunnable judges an error of Exec: it is the function's own if its program is not executable, not for this machine …
func (e *environment) notRunnable(err error) (*failure, error) {
	var cannot *fs.PathError
	if (e.bringsBootstrap() || e.version.Image != nil) && errors.As(err, &cannot) && cannot.Op == "exec" {
		return invalidEntrypoint("fork/exec " + cannot.Path + ": " + cannot.Err.Error()), nil
	}
	return nil, err
}

// limited sets the time limit of one wait for the runtime. If the process has ended already, the wait would be in vain:
// the Runtime API was told before and will not say so again. Ending later interrupts the wait (attend).
func (e *environment) limited(deadline time.Time) (context.Context, error) {
	ctx := e.limit.set(deadline)
	if e.process.ended() {
		return ctx, runtimeapi.ErrReset
	}
	if len(e.helpers) > 0 || e.extended {
		if f := e.ext.Failure(); f != nil { // as above: the alarm was given before
			return ctx, f
		}
	}
	return ctx, nil
}

// interrupted says why a wait for the runtime ended with err, and kills what is left of the runtime.
func (e *environment) interrupted(late bool, err error) (f *failure, _ error) {
	switch {
	case e.ctx.Err() != nil:
		return nil, ErrStopped
	case e.ext.Failure() != nil:
		f = e.extensionFailure()
	case e.process.ended() || errors.Is(err, runtimeapi.ErrReset):
		if f, err = e.exitFailure(); err != nil {
			return nil, err
		}
	case late:
		f = &failure{class: lambda.TimedOut, errorType: timeoutType}
	default:
		return nil, err
	}
	return f, e.halt(f.reason())
}

// checkEntrypoint looks for the bootstrap of a provided runtime before it is started, to name what is missing.
func (e *environment) checkEntrypoint() *failure {
	if e.version.Image != nil {
		return e.checkImage()
	}
	if !e.bringsBootstrap() {
		return nil
	}
	if _, found := e.bootstrap(); found {
		return nil
	}
	return invalidEntrypoint("Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]")
}

func invalidEntrypoint(message string) *failure {
	return &failure{class: lambda.Exited, errorType: "Runtime.InvalidEntrypoint", message: message}
}

// bootstrap finds the program of a provided runtime: in the code, or else in the layers. As on Lambda a directory of that name, and a link
// that leads to one or to nothing, is none (rapidcore/bootstrap.go of AWS's runtime interface emulator).
func (e *environment) bootstrap() (path string, found bool) {
	path = e.runtime.Command[0]
	inside := strings.TrimPrefix(path, taskRoot)
	if mayRun(e.tree.Path, inside) {
		return path, true
	}
	if e.layers != nil && mayRun(e.layers.Path, inside) {
		return layerRoot + inside, true
	}
	return path, false
}

// mayRun reports whether there is something at a path of a tree that is no directory. A link is followed within the tree; where one leads that
// cannot be, is for the kernel to say, in the sandbox.
func mayRun(tree, path string) bool {
	info, err := os.Lstat(filepath.Join(tree, path))
	if err == nil && info.Mode().Type() == fs.ModeSymlink {
		var root *os.Root
		if root, err = os.OpenRoot(tree); err == nil {
			defer root.Close()
			info, err = root.Stat(strings.TrimPrefix(path, "/"))
		}
	}
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return !info.IsDir()
}

// bringsBootstrap reports whether the runtime's program is the function's own (provided.*).
func (e *environment) bringsBootstrap() bool {
	return e.version.Image == nil && strings.HasPrefix(e.runtime.Command[0], taskRoot+"/")
}

// launch starts the runtime process and the goroutine that sees it end.
func (e *environment) launch() (*process, error) {
	if p := e.handOver(); p != nil {
		return p, nil
	}
	cmd := e.command()
	var conn runtimeapi.Conn
	if e.runtime.Frames {
		ours, theirs, err := runtimeapi.Pipes()
		if err != nil {
			return nil, err
		}
		defer theirs.Close()
		conn, cmd.Extra = ours, theirs[:] // from runtimes.FrameFD on
	}
	ctx, cancel := sandboxContext()
	defer cancel()
	proc, err := e.sandbox.Exec(ctx, cmd)
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, err
	}
	return e.follow(proc, conn), nil
}

// follow attends to a process that was started.
func (e *environment) follow(proc sandbox.Process, conn runtimeapi.Conn) *process {
	p := &process{Process: proc, told: make(chan struct{})}
	e.w.live.Go(func() { e.attend(p, conn) })
	return p
}

// environ is the environment of the runtime process.
func (e *environment) environ() []string {
	var creds *Credentials
	if e.w.cfg.Credentials != nil {
		c := e.w.cfg.Credentials(e.version)
		creds = &c
	}
	return environ(e.version, e.runtime, e.lines.stream, creds, e.ahead)
}

func (e *environment) command() sandbox.Command {
	argv := e.runtime.Command
	if e.bringsBootstrap() {
		path, _ := e.bootstrap()
		argv = append([]string{path}, argv[1:]...)
	}
	path, dir := argv[0], taskRoot
	if e.version.Image != nil {
		path, dir = e.program, e.workdir
	}
	return sandbox.Command{
		Path:   path,
		Args:   argv,
		Env:    e.environ(),
		Dir:    dir,
		Stdout: e.out.w,
		Stderr: e.out.w, // the same pipe: lines keep the order in which they were written
		NoWait: true,    // what the runtime does first is awaited anyway
	}
}

// attend serves the frames of p, if it speaks them, sees p end, and tells the Runtime API so.
func (e *environment) attend(p *process, conn runtimeapi.Conn) {
	defer close(p.told)
	defer e.limit.interrupt() // for a wait that began after the Reset below
	defer e.forget(p)
	if conn == nil {
		<-p.Done() // bounded by the environment's life: ending it destroys the sandbox
		return
	}
	defer conn.Close()
	served := make(chan error, 1)
	e.w.live.Go(func() { served <- e.api.ServeConn(e.ctx, conn, p.Done()) })
	select {
	case <-p.Done():
		select {
		case <-served: // having read the process's last words, maybe an answer
		case <-time.After(lastWords): // the channel lives on in a process that it left behind
			e.forget(p)
			<-served
		}
	case err := <-served:
		if errors.Is(err, runtimeapi.ErrProtocol) || !p.endsWithin(exitGrace) {
			e.log.Info("runtime broke or closed its channel and lives on; it is killed", "error", err)
			p.Signal(syscall.SIGKILL)
		}
		<-p.Done()
	}
}

// forget resets the Runtime API, and keeps what p said of why it could not start: nobody may have waited for that yet.
func (e *environment) forget(p *process) {
	if said := e.api.InitError(); said != nil {
		p.initErr = said
	}
	e.api.Reset()
}

func (p *process) endsWithin(d time.Duration) bool {
	if p.ended() {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.Done():
		return true
	case <-timer.C:
		return false
	}
}

// reset kills every process of the sandbox and cleans up after the runtime. The sandbox and its /tmp stay. An error means
// that the sandbox no longer obeys.
func (e *environment) reset() error {
	if e.process == nil && len(e.helpers) == 0 {
		return nil
	}
	ctx, cancel := sandboxContext()
	defer cancel()
	e.ext.Dismiss()
	e.dropParked() // or its runtime would be missed later
	if err := e.sandbox.Kill(ctx); err != nil {
		return fmt.Errorf("the runtime could not be killed: %w", err)
	}
	if e.process != nil {
		if err := e.waitTold(ctx); err != nil {
			return err
		}
		e.out.drain(time.Now())
		e.process = nil
	}
	return e.resetExtensions(ctx)
}

func (e *environment) waitTold(ctx context.Context) error {
	select {
	case <-e.process.told:
		return nil
	case <-ctx.Done():
		return errors.New("the runtime process did not end when its channel closed or it was killed")
	}
}

// exitFailure says why the runtime process ended, if it said so, or else how, after the Runtime API has said that it did.
func (e *environment) exitFailure() (*failure, error) {
	ctx, cancel := sandboxContext()
	defer cancel()
	if err := e.waitTold(ctx); err != nil {
		return nil, err
	}
	if said := e.process.initErr; said != nil {
		return initFailure(said), nil
	}
	exit := e.process.Exit()
	if exit.Err != nil {
		return e.notRunnable(exit.Err)
	}
	f := &failure{class: lambda.Exited, errorType: "Runtime.ExitError"}
	switch {
	case exit.OOM:
		f.class, f.message = lambda.OutOfMemory, "Runtime exited with error: signal: killed"
	case exit.Signal != 0:
		f.message = "Runtime exited with error: signal: " + exit.Signal.String()
	case exit.Code != 0:
		f.message = fmt.Sprintf("Runtime exited with error: exit status %d", exit.Code)
	default:
		f.message = "Runtime exited without providing a reason"
	}
	return f, nil
}

// initFailure is what a runtime that could not start said of why.
func initFailure(said *runtimeapi.InitError) *failure {
	f := judge(&runtimeapi.Response{IsError: true, ErrorType: said.ErrorType, Payload: said.Payload})
	f.class = lambda.InitErr
	return f
}

func isProvided(runtime string) bool { return strings.HasPrefix(runtime, "provided") }
