package apiserver

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"testing"

	"berth/catalog"
	"berth/lambda"
	"berth/store/memory"
)

// gate is a server and a call, as far as a gate needs them.
func gate(level slog.Level) (*Server, *call) {
	cat := catalog.New(memory.NewCatalog(), "us-east-1")
	s := &Server{cfg: Config{Catalog: cat}, log: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: level}))}
	who := lambda.Caller{Account: catalog.FirstAccount, Key: "AKIA"}
	return s, &call{r: httptest.NewRequest("POST", "/", nil), who: who, account: who.Account}
}

// TestUsualCallCostsNothing: a key without a policy that calls its own function allocates nothing at the gate.
func TestUsualCallCostsNothing(t *testing.T) {
	s, c := gate(slog.LevelInfo)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := s.invocable(c, invokeAction, "f", "live"); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkInvocable(b *testing.B) {
	for name, level := range map[string]slog.Level{"usual": slog.LevelInfo, "logged": slog.LevelDebug} {
		b.Run(name, func(b *testing.B) {
			s, c := gate(level)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.invocable(c, invokeAction, "f", ""); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
