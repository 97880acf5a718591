package worker

import (
	"slices"
	"testing"

	"berth/lambda"
	"berth/sandbox"
)

// startAhead asks for an environment that no call waits for.
func (h *harness) startAhead(v *lambda.Version) lambda.EnvironmentID {
	h.t.Helper()
	const id = "e-ahead"
	if err := h.Start(h.t.Context(), lambda.StartRequest{Environment: id, Owner: "m1", Version: v, Ahead: true}); err != nil {
		h.t.Fatal(err)
	}
	return id
}

func TestAnEnvironmentMadeAheadBecomesIdle(t *testing.T) {
	h := newHarness(t, serve(echo))
	id := h.startAhead(testVersion())
	eventually(t, "idle", func() bool { idle, _ := h.owner.counts(id); return idle == 1 })
	if s := h.Stats(); s.Environments[Idle] != 1 {
		t.Errorf("%+v", s)
	}
	out := h.call(lambda.Reservation{Environment: id}, `1`)
	h.wantOutcome(out, lambda.OK, `1`)
	if out.Cold {
		t.Error("the first call is called cold: it waited for no start")
	}
}

func TestAnEnvironmentMadeAheadEndsWhenItsInitFails(t *testing.T) {
	h := newHarness(t, func(p *standinProcess) sandbox.Exit {
		p.send('I', "\x19Runtime.ImportModuleError{}")
		<-p.ctx.Done()
		return killed
	})
	id := h.startAhead(testVersion())
	eventually(t, "gone", func() bool { _, gone := h.owner.counts(id); return gone == 1 })
	if idle, _ := h.owner.counts(id); idle != 0 {
		t.Error("the owner heard that it was idle")
	}
}

func TestAnEnvironmentMadeAheadKnowsIt(t *testing.T) {
	env := make(chan []string, 1)
	h := newHarness(t, serve(echo), func(_ *Config, d *standinDriver) {
		main := d.program
		d.program = func(p *standinProcess) sandbox.Exit {
			env <- p.cmd.Env
			return main(p)
		}
	})
	h.startAhead(testVersion())
	if got := <-env; !slices.Contains(got, "AWS_LAMBDA_INITIALIZATION_TYPE=provisioned-concurrency") {
		t.Errorf("%q", got)
	}
}
