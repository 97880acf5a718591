package sleep

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		began := time.Now()
		if !For(ctx, time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("waited %s, want a minute", time.Since(began))
		}
		if For(ctx, time.Minute) || time.Since(began) != 90*time.Second {
			t.Errorf("waited until %s, want until the context ended", time.Since(began))
		}
	})
}
