package runtimeapi

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"
)

// However resets, answers and lost patience fall together, each Invoke returns once and leaves nothing for the next.
func TestResetsAtAnyMoment(t *testing.T) {
	api := New(Config{})
	answer := frame('R', "1")
	for i := range 100 {
		p, served := attach(t, api)
		p.send('N', "")
		var wg sync.WaitGroup
		wg.Go(func() {
			buf := make([]byte, 1024)
			for {
				if _, err := p.c.Read(buf); err != nil {
					return
				}
				if _, err := p.c.Write(answer); err != nil {
					return
				}
			}
		})
		wg.Go(func() {
			for range 20 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i%7)*20*time.Microsecond+time.Microsecond)
				r, err := api.Invoke(ctx, &Event{RequestID: "x"})
				cancel()
				if err == nil && string(r.Payload) != "1" || err != nil && !errors.Is(err, context.DeadlineExceeded) && err != ErrReset {
					t.Errorf("%+v %v", r, err)
				}
			}
		})
		time.Sleep(time.Duration(i%11) * 10 * time.Microsecond) // the moment of the reset is what varies
		api.Reset()
		p.c.Close()
		if err := <-served; err == nil || errors.Is(err, ErrProtocol) {
			t.Errorf("ServeConn: %v", err)
		}
		wg.Wait()
		api.Reset() // the first one may have come before the connection
		if len(api.results) != 0 {
			t.Fatal("an answer is left for the next Invoke")
		}
	}
}

// After Close everything that waits, and everything that comes later, ends.
func TestClose(t *testing.T) {
	api, p, served := connect(t)
	p.send('N', "")
	done := invoke(short(t), api, &Event{RequestID: "x"})
	p.event()
	api.Close()
	if got := <-done; got.err != ErrReset {
		t.Error(got.err)
	}
	if err := <-served; err != ErrReset {
		t.Error(err)
	}
	if _, err := api.Invoke(short(t), &Event{}); err != ErrReset {
		t.Error(err)
	}
	if err := api.ServeConn(t.Context(), p.c, nil); err != ErrReset {
		t.Error(err)
	}
	if _, err := p.c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("our side is open: %v", err)
	}
}
