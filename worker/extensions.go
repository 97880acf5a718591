package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"berth/extensions"
	"berth/lambda"
	"berth/sandbox"
)

// extensionDir holds the external extensions: every file in it is a program to start.
const extensionDir = layerRoot + "/extensions"

// connsPerExtension is how many connections to the Runtime API's server an external extension adds to those allowed.
const connsPerExtension = 4

// quietLimit is how long an idle environment may put off being frozen because telemetry is still to be delivered.
const quietLimit = 2 * time.Second

// helper is the process of one external extension.
type helper struct {
	sandbox.Process
	of *extensions.Extension
}

// openExtensions makes the host; it costs nothing until somebody registers.
func (e *environment) openExtensions(context.Context) error {
	e.ext = extensions.New(extensions.Config{
		Account: string(e.version.Account), Function: e.version.Function, Version: e.version.Number, Handler: e.version.Handler,
		JSON:  e.version.Logging.Format == lambda.JSON,
		Dial:  e.dialInside,
		Alarm: e.limit.interrupt,
		Subscribed: func(name string, legacy bool, types []string) {
			e.out.subscribed(time.Now(), name, legacy, types)
		},
		Log: e.log,
	})
	e.external = e.findExtensions()
	return nil
}

func (e *environment) closeExtensions() {
	if e.ext != nil {
		e.ext.Close()
	}
}

// findExtensions lists the files of /opt/extensions, sorted, and at most one more than are allowed. The directory is looked at
// here, on the host, so it must be one and no link; what the files are is seen inside the sandbox only.
func (e *environment) findExtensions() (names []string) {
	if e.layers == nil {
		return nil
	}
	dir := filepath.Join(e.layers.Path, filepath.Base(extensionDir))
	if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
		return nil
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		e.log.Warn("the function's extensions could not be listed; they are not started", "error", err)
	}
	for _, entry := range list {
		if !entry.IsDir() && len(names) <= extensions.MaxExtensions {
			names = append(names, entry.Name())
		}
	}
	return names
}

// dialInside connects to where an extension listens: on the sandbox's own address, or on its loopback.
func (e *environment) dialInside(ctx context.Context, port uint16) (net.Conn, error) {
	conn, err := e.sandbox.Dial(ctx, netip.AddrPortFrom(apiAddress.Addr(), port))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return e.sandbox.Dial(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	}
	return conn, err
}

// startExtensions starts the external extensions and waits until all have registered.
func (e *environment) startExtensions(deadline time.Time, phase string) (*failure, error) {
	began := e.ext.Begin(e.external)
	e.ext.InitStart(time.Now(), e.initEvent(phase, nil))
	if len(began) == 0 {
		return nil, nil
	}
	if err := e.openExtensionOutput(); err != nil {
		return nil, err
	}
	for i, x := range began {
		err := extensions.ErrTooMany
		if i < extensions.MaxExtensions {
			err = e.launchExtension(x)
		}
		var cannot *fs.PathError
		switch {
		case err == nil:
			continue
		case errors.As(err, &cannot) || errors.Is(err, extensions.ErrTooMany):
			e.ext.LaunchFailed(x, err)
		default:
			return nil, err
		}
		break
	}
	ctx := e.limit.set(deadline)
	err := e.ext.AwaitRegistered(ctx)
	return e.extensionOutcome(e.limit.clear(), err)
}

func (e *environment) launchExtension(x *extensions.Extension) error {
	ctx, cancel := sandboxContext()
	defer cancel()
	path := extensionDir + "/" + x.Name
	proc, err := e.sandbox.Exec(ctx, sandbox.Command{
		Path: path, Args: []string{path}, Dir: "/", Env: extensionEnviron(e.command().Env, e.version),
		Stdout: e.extOut.w, Stderr: e.extOut.w,
	})
	if err != nil {
		return err
	}
	e.helpers = append(e.helpers, helper{proc, x})
	e.w.live.Go(func() {
		<-proc.Done() // bounded by the environment's life
		e.ext.Exited(x, proc.Exit())
	})
	return nil
}

// openExtensionOutput makes the pipe to which extensions print. Their lines go to the function's log stream, but are told apart
// as telemetry.
func (e *environment) openExtensionOutput() error {
	if e.extOut != nil {
		return nil
	}
	out, err := openOutput()
	if err != nil {
		return err
	}
	out.logStream = newLogStream(e.w.cfg.Logs, e.version, e.id, e.runtime)
	out.tap, out.through = e.ext, e.out.logStream
	e.extOut = out
	e.w.live.Go(out.follow)
	return nil
}

// hiddenFromExtensions are the runtime's own variables; developer guide, "Extensions API: environment variables". The second line is
// set by what starts a runtime on Lambda, so that extensions do not see it there either.
var hiddenFromExtensions = []string{
	"AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS",
	"LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "_AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_PORT", "_HANDLER",
	"PYTHONPATH", "NODE_PATH", "LC_CTYPE", "PWD", "SHLVL",
}

// extensionEnviron is the environment of an external extension: the runtime's without what is the runtime's own. What the function
// itself sets of the latter stays, but for what is reserved.
func extensionEnviron(env []string, v *lambda.Version) []string {
	return slices.DeleteFunc(slices.Clone(env), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		i := slices.Index(hiddenFromExtensions, name)
		_, own := v.Env[name]
		return i >= 0 && (i < 10 || !own)
	})
}

// awaitExtensions waits until all extensions have asked for their first event, after the runtime has.
func (e *environment) awaitExtensions(deadline time.Time, phase string) (*failure, error) {
	if e.ext.Listening() {
		e.ext.InitRuntimeDone(time.Now(), e.initEvent(phase, nil))
	}
	if e.ext.Idle() {
		return nil, nil
	}
	ctx, err := e.limited(deadline)
	if err == nil {
		err = e.ext.AwaitIdle(ctx)
	}
	late := e.limit.clear()
	if f := e.extensionFailure(); f != nil || err == nil {
		return f, nil
	}
	return e.interrupted(late, err)
}

// extensionOutcome says what the end of a wait for extensions means.
func (e *environment) extensionOutcome(late bool, err error) (*failure, error) {
	switch {
	case err == nil:
		return nil, nil
	case e.ctx.Err() != nil:
		return nil, ErrStopped
	}
	if f := e.extensionFailure(); f != nil {
		return f, nil
	}
	if late {
		return &failure{class: lambda.TimedOut, errorType: timeoutType}, nil
	}
	return nil, err
}

// extensionFailure is the failure of an extension, if there is one.
func (e *environment) extensionFailure() *failure {
	f := e.ext.Failure()
	if f == nil {
		return nil
	}
	class := lambda.Exited
	if f.OOM {
		class = lambda.OutOfMemory
	}
	return &failure{class: class, errorType: f.Type, message: f.Message}
}

// extensionsBegun ends the time in which extensions register, and says in the log what became of them.
func (e *environment) extensionsBegun() {
	if e.extOut != nil {
		e.extOut.drain(time.Now())
	}
	for _, x := range e.ext.Infos() {
		now := time.Now()
		e.out.extensionLine(now, x)
		if e.ext.Listening() {
			e.ext.Tell(now, x)
		}
	}
	e.extended = e.ext.InitDone() > 0
}

// halt ends the runtime after a failure. Where there are external extensions this is put off until the caller has its answer, as they
// are to be told and given time: whoever has the turn calls windDown.
func (e *environment) halt(reason extensions.Reason) error {
	if len(e.helpers) == 0 {
		return e.reset()
	}
	e.winding = reason
	return nil
}

// windDown does what halt has put off.
func (e *environment) windDown() error {
	if e.winding == "" {
		return nil
	}
	e.tellExtensions(e.winding)
	return e.reset()
}

// endExtensions gives extensions their time before the environment ends.
func (e *environment) endExtensions() {
	if len(e.helpers) == 0 && !e.extended {
		return
	}
	if err := e.thaw(); err != nil {
		e.log.Warn("extensions were not told of the end: the environment could not be thawed", "error", err)
		return
	}
	e.tellExtensions(extensions.Spindown)
}

// tellExtensions ends the runtime, tells extensions, and waits for them within the limits.
func (e *environment) tellExtensions(reason extensions.Reason) {
	ctx, cancel := context.WithTimeout(context.Background(), extensions.ShutdownExternal)
	defer cancel()
	deadline, _ := ctx.Deadline()
	e.ext.Dismiss()
	if p := e.process; p != nil && !p.ended() {
		grace := extensions.ShutdownRuntime
		if len(e.helpers) == 0 {
			grace = extensions.ShutdownInternal
		}
		if reason == extensions.Spindown && p.Signal(syscall.SIGTERM) == nil {
			p.endsWithin(grace)
		}
		p.Signal(syscall.SIGKILL) // fails if it has ended
	}
	e.ext.Shutdown(reason, deadline)
	for _, h := range e.helpers {
		if !e.ext.WantsShutdown(h.of) {
			h.Signal(syscall.SIGKILL)
		}
	}
	for _, h := range e.helpers {
		select {
		case <-h.Done():
		case <-ctx.Done():
		}
	}
	if e.extOut != nil {
		e.extOut.drain(time.Now())
	}
}

// resetExtensions cleans up after extensions whose processes were killed.
func (e *environment) resetExtensions(ctx context.Context) error {
	for _, h := range e.helpers {
		select {
		case <-h.Done():
		case <-ctx.Done():
			return fmt.Errorf("extension %s did not end when it was killed", h.of.Name)
		}
	}
	e.helpers, e.extended, e.winding = nil, false, ""
	return nil
}
