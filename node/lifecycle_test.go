package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

func TestPartsStopInReverse(t *testing.T) {
	l := newLifecycle(slog.New(slog.DiscardHandler))
	var order []string
	l.onStop("engine", func(context.Context) error { order = append(order, "engine"); return nil })
	l.run("worker", func(ctx context.Context) error { <-ctx.Done(); order = append(order, "worker"); return ctx.Err() })
	l.onStop("http", func(context.Context) error { order = append(order, "http"); return nil })
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"http", "worker", "engine"}; !slices.Equal(order, want) {
		t.Errorf("stopped %v, want %v", order, want)
	}
}

func TestAPartThatEndsByItselfEndsTheNode(t *testing.T) {
	l := newLifecycle(slog.New(slog.DiscardHandler))
	l.run("catalog", func(context.Context) error { return errors.New("feed lost") })
	err := l.wait(t.Context())
	if err == nil || !strings.Contains(err.Error(), "catalog ended: feed lost") {
		t.Errorf("wait = %v", err)
	}
}

func TestAPartThatHangsIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLifecycle(slog.New(slog.DiscardHandler))
		release := make(chan struct{})
		l.run("stuck", func(context.Context) error { <-release; return nil })
		if err := l.stop(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop = %v, want the time limit", err)
		}
		close(release)
	})
}
