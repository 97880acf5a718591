package worker

import (
	"errors"
	"slices"
	"testing"
	"time"

	"berth/lambda"
)

func TestEachReservationIsUsedOnce(t *testing.T) {
	h := newHarness(t, serve(echo))
	res := h.start(testVersion())
	res.Number = 1
	h.wantOutcome(h.call(res, `1`), lambda.OK, `1`)
	invoke := func(number uint64) error {
		res.Number = number
		_, err := h.Invoke(t.Context(), res, &lambda.Invocation{RequestID: "r", Payload: []byte(`2`)})
		return err
	}
	if err := invoke(1); !errors.Is(err, ErrNotReserved) {
		t.Errorf("a call that arrived twice: %v", err)
	}
	res.Number = 2
	if a := h.giveBack(res); !slices.Contains(a.Idle, res.Environment) {
		t.Errorf("a reservation was given back and the answer is %+v", a)
	}
	if err := invoke(2); !errors.Is(err, ErrNotReserved) {
		t.Errorf("a reservation that was given back: %v", err)
	}
	if err := invoke(3); err != nil {
		t.Errorf("the next reservation: %v", err)
	}
	res.Number = 4 // the owner has given it away, and the call is on its way
	a, _ := h.Renew(t.Context(), lambda.RenewRequest{Holdings: []lambda.Holding{{Environment: res.Environment, Reservation: 4}}})
	if len(a.Idle)+len(a.Gone) > 0 {
		t.Errorf("a reservation that waits for its call: %+v, want nothing said", a)
	}
}

func TestEnvironmentsEndWithTheirLease(t *testing.T) {
	gate := make(chan struct{})
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) {
		if payload == `"wait"` {
			<-gate
		}
		return 'R', payload
	}), func(c *Config, _ *standinDriver) {
		c.Lease = 300 * time.Millisecond
		c.IdleFreeze = 20 * time.Millisecond // looks at the environments often
	})
	orphan, running, renewed := h.start(testVersion()), h.start(testVersion()), h.start(testVersion())
	for _, res := range []lambda.Reservation{orphan, running, renewed} {
		h.call(res, `1`)
	}
	done := make(chan error, 1)
	go func() {
		_, err := h.Invoke(t.Context(), running, &lambda.Invocation{RequestID: "r", Payload: []byte(`"wait"`)})
		done <- err
	}()
	gone := func(res lambda.Reservation) bool { _, gone := h.owner.counts(res.Environment); return gone == 1 }
	eventually(t, "the orphan is gone", func() bool {
		h.Renew(t.Context(), lambda.RenewRequest{Owner: "m1", Holdings: []lambda.Holding{{Environment: renewed.Environment}}})
		// Who is not its owner renews nothing.
		h.Renew(t.Context(), lambda.RenewRequest{Holdings: []lambda.Holding{{Environment: orphan.Environment}}})
		return gone(orphan)
	})
	if gone(running) {
		t.Error("a running invocation was ended with its lease")
	}
	if gone(renewed) {
		t.Error("an environment ended although its lease was renewed")
	}
	close(gate)
	if err := <-done; err != nil {
		t.Errorf("the running invocation: %v", err)
	}
	eventually(t, "it ends after its invocation", func() bool { return gone(running) })
}

func TestAnEnvironmentThatEndedIsNotMadeAgain(t *testing.T) {
	h := newHarness(t, serve(echo))
	res := h.start(testVersion())
	h.call(res, `1`)
	h.End(t.Context(), res.Environment)
	if err := h.Start(t.Context(), lambda.StartRequest{Environment: res.Environment, Owner: "m1", Version: testVersion()}); err == nil {
		t.Error("a request that came twice made the environment again")
	}
}
