package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/internal/testcert"
	"berth/lambda"
)

// TestARoleHearsThatItsCallerLeft: whoever waits for a manager and gives up ends the manager's waiting, too.
func TestARoleHearsThatItsCallerLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan struct{})
		d := &waiting{acquire: func(ctx context.Context) { <-ctx.Done(); close(left) }}
		m := NewManager(newPipes().serve(t, d), "pipe:1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if _, err := m.Acquire(ctx, lambda.AcquireRequest{Version: &version}); !errors.Is(err, lambda.ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire: %v", err)
		}
		<-left
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// waiting is a manager whose Acquire does what the test says.
type waiting struct {
	double
	acquire func(context.Context)
}

func (w *waiting) Acquire(ctx context.Context, _ lambda.AcquireRequest) (lambda.Answer, error) {
	w.acquire(ctx)
	return lambda.Answer{Verdict: lambda.Miss}, nil
}

// TestALongCallIsAnswered: watching the caller, and idle limits, disturb neither it nor the next.
func TestALongCallIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := make(chan time.Duration, 1)
		d := &waiting{acquire: func(context.Context) { time.Sleep(<-took) }}
		p := newPipes()
		m := NewManager(p.serve(t, d), "pipe:1")
		for _, long := range []time.Duration{watchAfter, watchAfter + 1, 0, time.Second, acquireLimit - 1, 0} {
			took <- long
			if a, err := m.Acquire(t.Context(), lambda.AcquireRequest{Version: &version}); err != nil || a.Verdict != lambda.Miss {
				t.Errorf("a call of %v: %+v, %v", long, a, err)
			}
		}
		if p.dialed.Load() != 1 {
			t.Errorf("%d connections were made for calls one after the other", p.dialed.Load())
		}
		time.Sleep(2 * idleLimit)
		took <- 0
		if _, err := m.Acquire(t.Context(), lambda.AcquireRequest{Version: &version}); err != nil || p.dialed.Load() != 2 {
			t.Errorf("after a pause: %v, %d connections", err, p.dialed.Load())
		}
	})
}

// TestAServerThatStops: calls under way are answered, then its connections end, and later calls know that they were not sent.
func TestAServerThatStops(t *testing.T) {
	d := &double{hold: make(chan struct{}), outcome: &lambda.Outcome{Payload: []byte("1")}}
	_, w, s := serve(t, d)
	done := make(chan error, 1)
	go func() {
		_, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{})
		done <- err
	}()
	waitUntil(t, func() bool { return len(d.requests()) == 1 })
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stop() }()
	waitUntil(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.draining })
	close(d.hold)
	if err := <-done; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-stopped
	if _, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{}); !errors.Is(err, lambda.ErrUnknownEnvironment) {
		t.Errorf("a call after the end: %v", err)
	}
}

// TestAServerThatStopsCutsOff: what does not end in time ends anyway.
func TestAServerThatStopsCutsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &waiting{acquire: func(ctx context.Context) { <-ctx.Done() }}
		s := NewHandler(token, d, nil)
		stop := running(t, s.Run)
		c := newPipes().connect(t, s)
		done := make(chan error, 1)
		go func() {
			_, err := NewManager(c, "pipe:1").Acquire(context.WithoutCancel(t.Context()), lambda.AcquireRequest{Version: &version})
			done <- err
		}()
		synctest.Wait()
		stop()
		if err := <-done; !errors.Is(err, lambda.ErrUnreachable) {
			t.Errorf("the call under way: %v", err)
		}
	})
}

// TestALargePayloadDelaysNobody: small calls pass while one with the largest payload cannot go on.
func TestALargePayloadDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, p, stuck := &double{outcome: &lambda.Outcome{}}, newPipes(), make(chan int)
		c := p.serve(t, d)
		p.stuckAbove.Store(joinBelow)
		p.stuck.Store(&stuck)
		done := make(chan error, 1)
		go func() {
			_, err := NewWorker(c, "pipe:1").Invoke(t.Context(), reservation, &lambda.Invocation{Payload: make([]byte, lambda.MaxPayload)})
			done <- err
		}()
		synctest.Wait()
		for range 100 {
			if !NewManager(c, "pipe:1").Ping(t.Context()) {
				t.Fatal("no answer")
			}
		}
		close(stuck)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestManyAtOnce: calls do not mix up.
func TestManyAtOnce(t *testing.T) {
	d := &streamer{}
	s := listen(t, d, echo{d})
	c := NewClient(token, nil)
	defer c.Close()
	var calls sync.WaitGroup
	for i := range 32 {
		calls.Go(func() {
			for j := range 50 {
				payload := make([]byte, i*j)
				for k := range payload {
					payload[k] = byte(i + j)
				}
				out, err := NewWorker(c, s.addr).Invoke(t.Context(), reservation, &lambda.Invocation{Payload: payload})
				if err != nil || string(out.Payload) != string(payload) {
					t.Errorf("call %d of %d: %v", j, i, err)
					return
				}
			}
		})
	}
	calls.Wait()
}

type echo struct{ *streamer }

func (echo) Invoke(_ context.Context, _ lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	return &lambda.Outcome{Payload: inv.Payload}, nil
}

// TestMutualTLS: with certificates calls work; who has none is not let in, and nothing was sent.
func TestMutualTLS(t *testing.T) {
	files := testcert.Write(t, t.TempDir())
	security := tlsConfig(t, files.Cert, files.Key, files.CA)
	roles := NewHandler(token, &double{}, &double{outcome: &lambda.Outcome{}})
	running(t, roles.Run)
	l, err := tls.Listen("tcp", "127.0.0.1:0", security)
	if err != nil {
		t.Fatal(err)
	}
	front := &http.Server{Handler: roles, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = front.Serve(l) }()
	defer front.Close()
	c := NewClient(token, security)
	defer c.Close()
	w := NewWorker(c, l.Addr().String())
	for _, size := range []int{1, 2, lambda.MaxPayload} {
		if _, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{Payload: make([]byte, size)}); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	for name, other := range map[string]*Client{"no TLS": NewClient(token, nil), "no certificate": NewClient(token, &tls.Config{RootCAs: security.RootCAs})} {
		if _, err := NewManager(other, l.Addr().String()).Acquire(t.Context(), lambda.AcquireRequest{Version: &version}); err == nil {
			t.Errorf("%s: let in", name)
		}
		other.Close()
	}
}

func tlsConfig(t *testing.T, cert, key, authority string) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
}
