package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"berth/lambda"
)

// TestAWorkerRunsDry: what runs ends, nothing new begins, environments are left to their managers for a while, and Drain returns
// when nothing is left.
func TestAWorkerRunsDry(t *testing.T) {
	gate := make(chan struct{})
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) {
		if payload == `"wait"` {
			<-gate
		}
		return 'R', payload
	}))
	idle, running, fresh := h.start(testVersion()), h.start(testVersion()), h.start(testVersion())
	h.call(idle, `1`)
	h.call(running, `1`)
	called := make(chan error, 1)
	go func() {
		_, err := h.Invoke(t.Context(), running, &lambda.Invocation{RequestID: "r", Payload: []byte(`"wait"`)})
		called <- err
	}()
	eventually(t, "the call runs", func() bool { return h.Stats().Environments[Running] == 1 })
	drained := make(chan error, 1)
	h.grace = time.Hour
	go func() { drained <- h.Drain(context.Background()) }()
	eventually(t, "nothing new begins", h.draining.Load)
	err := h.Start(t.Context(), lambda.StartRequest{Environment: "late", Owner: "m1", Version: testVersion()})
	if !errors.Is(err, lambda.ErrNoCapacity) {
		t.Errorf("a new environment: %v", err)
	}
	if err := h.End(t.Context(), idle.Environment); err != nil { // its manager ends it
		t.Error(err)
	}
	h.wantOutcome(h.call(fresh, `2`), lambda.OK, `2`) // its call was on the way
	h.cutting.Store(true)                             // the grace is over
	eventually(t, "it ends when its manager has not ended it", func() bool { _, gone := h.owner.counts(fresh.Environment); return gone == 1 })
	select {
	case err := <-drained:
		t.Fatalf("Drain returned while a call runs: %v", err)
	default:
	}
	close(gate)
	if err := <-called; err != nil {
		t.Errorf("the call that ran: %v", err)
	}
	if err := <-drained; err != nil {
		t.Errorf("Drain: %v", err)
	}
	if n := len(h.Stats().Environments); n != 0 {
		t.Errorf("%d kinds of environments are left", n)
	}
}

func TestADrainsGraceEnds(t *testing.T) {
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) { return 'R', payload }))
	h.call(h.start(testVersion()), `1`)
	h.grace = time.Millisecond
	if err := h.Drain(context.Background()); err != nil || len(h.Stats().Environments) != 0 {
		t.Errorf("Drain: %v, and %v is left", err, h.Stats().Environments)
	}
}

func TestADrainHasALimit(t *testing.T) {
	gate := make(chan struct{})
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) { <-gate; return 'R', payload }))
	res := h.start(testVersion())
	called := make(chan struct{})
	go func() {
		defer close(called)
		_, _ = h.Invoke(t.Context(), res, &lambda.Invocation{RequestID: "r", Payload: []byte(`1`)})
	}()
	eventually(t, "the call runs", func() bool { return h.Stats().Environments[Running] == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain: %v", err)
	}
	close(gate)
	<-called
}
