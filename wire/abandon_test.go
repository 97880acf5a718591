package wire

import (
	"errors"
	"testing"

	"berth/lambda"
)

// TestAbandonEndsTheCallsOfAManager: who waits for a manager that is lost goes on at once. What runs in a worker of the same process is
// not known to be lost.
func TestAbandonEndsTheCallsOfAManager(t *testing.T) {
	d := &double{hold: make(chan struct{}), outcome: &lambda.Outcome{Payload: []byte("1")}}
	m, w, _ := serve(t, d)
	invoked, acquired := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{})
		invoked <- err
	}()
	go func() {
		_, err := m.Acquire(t.Context(), lambda.AcquireRequest{Version: &version})
		acquired <- err
	}()
	waitUntil(t, func() bool { return len(d.requests()) == 2 })
	m.client.Abandon("127.0.0.1:1")
	select {
	case err := <-acquired:
		t.Fatalf("a call to another address ended with %v", err)
	default:
	}
	m.client.Abandon(m.addr)
	if err := <-acquired; !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("Acquire: %v, want ErrUnreachable", err)
	}
	close(d.hold)
	if err := <-invoked; err != nil {
		t.Errorf("Invoke: %v", err)
	}
	if answer, err := m.Acquire(t.Context(), lambda.AcquireRequest{Version: &version}); err != nil {
		t.Errorf("Acquire afterwards: %+v, %v", answer, err)
	}
}
