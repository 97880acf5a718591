package worker

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"berth/lambda"
	"berth/sandbox"
)

// TestIdleEnvironmentOfAGoneSandboxEnds: when the sandbox of an idle environment has died with its init, before it was frozen or afterwards, no call is
// sent there any more.
func TestIdleEnvironmentOfAGoneSandboxEnds(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		var gone atomic.Bool
		h := newHarness(t, serve(echo), func(c *Config, d *standinDriver) {
			c.IdleFreeze = time.Millisecond
			d.fault = func(op string) error {
				if op == "freeze" && gone.Load() {
					return fmt.Errorf("sandbox x: %w", sandbox.ErrGone)
				}
				return nil
			}
		})
		gone.Store(!frozen)
		res := h.start(testVersion())
		h.call(res, `1`)
		if frozen {
			e := h.registry.find(res.Environment)
			eventually(t, "it is frozen", func() bool { _, frozen := e.look(); return frozen })
			gone.Store(true)
		}
		eventually(t, "the owner is told", func() bool { _, gone := h.owner.counts(res.Environment); return gone == 1 })
	}
}

// TestCallOfAGoneSandboxMayRunElsewhere: a call that meets a dead sandbox before its event was given to the function is marked so, for a frontend to try
// another environment; one that failed later is not.
func TestCallOfAGoneSandboxMayRunElsewhere(t *testing.T) {
	for _, c := range []struct {
		name   string
		ends   bool   // the runtime, while it is idle
		op     string // what finds the sandbox gone
		unseen bool
	}{
		{"frozen", false, "thaw", true}, {"ended", true, "kill", true}, {"breaks in the call", false, "kill", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var gone atomic.Bool
			idle := make(chan struct{})
			main := func(p *standinProcess) sandbox.Exit {
				p.send('N', "")
				for {
					_, payload, ok := p.event()
					if !ok || payload == `"break"` {
						return killed
					}
					if p.send('R', payload); c.ends {
						<-idle
						return killed
					}
				}
			}
			h := newHarness(t, main, func(cfg *Config, d *standinDriver) {
				if c.op == "thaw" {
					cfg.IdleFreeze = time.Millisecond
				}
				d.fault = func(op string) error {
					if op == c.op && gone.Load() {
						return fmt.Errorf("sandbox x: %w", sandbox.ErrGone)
					}
					return nil
				}
			})
			res := h.start(testVersion())
			h.call(res, `1`)
			e := h.registry.find(res.Environment)
			eventually(t, "idle, and frozen if it is to be", func() bool {
				state, frozen := e.look()
				return state == Idle && (c.op != "thaw" || frozen)
			})
			if close(idle); c.ends {
				<-e.process.told
			}
			gone.Store(true)
			defer gone.Store(false)
			res.Number = 0
			_, err := h.Invoke(t.Context(), res, &lambda.Invocation{RequestID: "r", Payload: []byte(`"break"`)})
			var known *lambda.Error
			if !errors.As(err, &known) || known.Code != lambda.ServiceFailure || known.NotStarted != c.unseen {
				t.Errorf("%v; want a failure of the service, unseen %t", err, c.unseen)
			}
		})
	}
}
