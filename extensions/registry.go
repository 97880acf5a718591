package extensions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"

	"berth/sandbox"
)

// state is where an extension stands, as in AWS's open-source emulator.
type state uint8

const (
	started state = iota // its process runs; it has not registered
	registered
	ready   // waits for an event
	running // has an event, or has left its wait for one
	initError
	exitError
	launchError
	exited
)

// String names a state as EXTENSION lines and error bodies do.
func (s state) String() string {
	return [...]string{"Started", "Registered", "Ready", "Running", "InitError", "ExitError", "LaunchError", "Exited"}[s]
}

// Extension is one extension. Its fields are guarded by the host's mutex.
type Extension struct {
	Name     string
	External bool

	id        string
	state     state
	errorType string
	invoke    bool // wants the event
	shutdown  bool
	events    []string // as it named them
	owes      bool     // has not asked for an event since it registered or got one
	polling   bool     // a request for the next event waits
	gone      bool     // of an earlier beginning
	pending   []byte   // event to be taken
	wake      chan struct{}
}

func newExtension(name string, external bool) *Extension {
	return &Extension{Name: name, External: external, id: uuid.NewString(), owes: true, wake: make(chan struct{}, 1)}
}

func (x *Extension) signal() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *Extension) give(event []byte) {
	x.pending = event
	x.signal()
}

// Info describes one extension.
type Info struct {
	Name      string
	State     string
	Events    []string
	ErrorType string // "" if none
}

// maxFileName bounds the names of external extensions, in bytes.
const maxFileName = 255

// Infos lists the extensions: external ones by name, then internal ones as they came.
func (h *Host) Infos() (list []Info) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.agents {
		list = append(list, Info{Name: clean(x.Name, maxFileName), State: x.state.String(), Events: slices.Clone(x.events), ErrorType: x.errorType})
	}
	return list
}

// WantsShutdown reports whether x is to be given time when the environment ends.
func (h *Host) WantsShutdown(x *Extension) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return x.shutdown
}

// LaunchFailed says that x's process could not be started.
func (h *Host) LaunchFailed(x *Extension, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x.gone {
		return
	}
	x.state, x.errorType = launchError, "UnknownError"
	message := err.Error()
	var path *fs.PathError
	switch {
	case errors.As(err, &path):
		message = fmt.Sprintf("fork/exec %s: %v", path.Path, path.Err)
		if errors.Is(err, fs.ErrPermission) {
			x.errorType = "PermissionDenied"
		}
	case errors.Is(err, ErrTooMany):
		x.errorType = "TooManyExtensions"
	}
	h.fail(&Failure{Type: "Extension.LaunchError", Message: message})
}

// ErrTooMany is LaunchFailed's error for those above MaxExtensions.
var ErrTooMany = errors.New("too many extensions")

// Exited says that x's process has ended. It is a failure unless the environment shuts down.
func (h *Host) Exited(x *Extension, exit sandbox.Exit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x.gone {
		return
	}
	f := &Failure{Type: "Extension.Crash", OOM: exit.OOM}
	switch x.state {
	case initError:
		f.Type = "Extension.InitError"
	case exitError:
		f.Type = "Extension.ExitError"
	default:
		x.state = exited
	}
	switch {
	case exit.Signal != 0:
		f.Message = "signal: " + signalName(exit.Signal)
	case exit.Code == 0:
		f.Message = "exit code 0"
	default:
		f.Message = fmt.Sprintf("exit status %d", exit.Code)
	}
	h.fail(f)
}

func signalName(s syscall.Signal) string { return s.String() }

// find returns the extension with this identifier; h.mu is held.
func (h *Host) find(id string) *Extension {
	for _, x := range h.agents {
		if x.id == id {
			return x
		}
	}
	return nil
}

// findName is find by name.
func (h *Host) findName(name string) *Extension {
	for _, x := range h.agents {
		if x.Name == name {
			return x
		}
	}
	return nil
}

type tracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// event renders the INVOKE event.
func (inv *Invocation) event() []byte {
	return encode(struct {
		EventType  string  `json:"eventType"`
		DeadlineMs int64   `json:"deadlineMs"`
		RequestID  string  `json:"requestId"`
		ARN        string  `json:"invokedFunctionArn"`
		Tracing    tracing `json:"tracing"`
	}{"INVOKE", inv.Deadline.UnixMilli(), inv.RequestID, inv.InvokedARN, tracing{"X-Amzn-Trace-Id", inv.TraceID}})
}

func shutdownEvent(reason Reason, deadline time.Time) []byte {
	return encode(struct {
		EventType  string `json:"eventType"`
		DeadlineMs int64  `json:"deadlineMs"`
		Reason     Reason `json:"shutdownReason"`
	}{"SHUTDOWN", deadline.UnixMilli(), reason})
}

// encode renders what consists of strings and numbers, which cannot fail.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte("{}")
	}
	return b
}
