package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/rollout"
	"berth/store/memory"
)

// inTrial is a catalog with a function that is on trial, and one that is not.
func inTrial(t testing.TB, fraction float64) (*trials, *lambda.Version, *lambda.Version) {
	t.Helper()
	cat := catalog.New(memory.NewCatalog(), "us-east-1")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cat.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-cat.Ready()
	a, b := lambda.RuntimeVersionID(strings.Repeat("a", 64)), lambda.RuntimeVersionID(strings.Repeat("b", 64))
	for _, id := range []lambda.RuntimeVersionID{a, b} {
		if _, err := cat.AddRelease(ctx, "python3.11", lambda.RuntimeRelease{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cat.EditRuntime(ctx, "python3.11", func(s *lambda.RuntimeState) error { s.Current, s.Candidate = a, b; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tried", "other"} {
		_, _, err := cat.Create(ctx, catalog.Version{Version: lambda.Version{
			Account: "000000000001", Function: name, Code: "c0de", Runtime: "python3.11", Handler: "h.handler", MemoryMB: 128,
			Timeout: 3 * time.Second, EphemeralMB: 512, Logging: lambda.Logging{Format: lambda.Text, Group: "g"}}}, nil, false)
		if err != nil {
			t.Fatal(err)
		}
	}
	of := catalog.TrialOf{ID: catalog.ID{Account: "000000000001", Name: "tried"}, Number: lambda.Latest}
	err := cat.BeginTrial(ctx, of, &catalog.Trial{RuntimeTrial: lambda.RuntimeTrial{
		ID: "trial", Runtime: "python3.11", Code: "c0de", Version: a, Candidate: b, Fraction: fraction, Stage: 1}})
	if err != nil {
		t.Fatal(err)
	}
	tried, _ := cat.Version(of.ID, lambda.Latest)
	other, _ := cat.Version(catalog.ID{Account: "000000000001", Name: "other"}, lambda.Latest)
	host := func(string) (lambda.RuntimeVersionID, error) { return "installed", nil }
	return &trials{versions: versions{cat, host}, recorder: rollout.NewRecorder()}, &tried.Version, &other.Version
}

// TestG1_TheSameRequestIsDrawnAlike, and the share is right.
func TestG1_TheSameRequestIsDrawnAlike(t *testing.T) {
	tr, tried, other := inTrial(t, .1)
	drawn := 0
	const calls = 20000
	for i := range calls {
		id := fmt.Sprintf("0f7c7d9e-0000-4000-8000-%012d", i)
		first, err := tr.Draw(tried, id)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := tr.Draw(tried, id); again != first {
			t.Fatalf("%s was drawn as %+v, then as %+v", id, first, again)
		}
		if first.New {
			drawn++
		}
		tr.Count(tried, &first, &lambda.Outcome{Class: lambda.OK})
	}
	if share := float64(drawn) / calls; share < .09 || share > .11 {
		t.Errorf("%.3f of the calls were drawn into the new version, want 0.1", share)
	}
	if d, _ := tr.Draw(other, "r"); d.Trial != nil || d.Version != lambda.RuntimeVersionID(strings.Repeat("a", 64)) {
		t.Errorf("a function that is not on trial: %+v", d)
	}
	counted := tr.recorder.Report(false, func(*rollout.Trial) bool { return true })
	if len(counted) != 1 || counted[0].Tally.Stages[1][rollout.New].Calls != uint64(drawn) || counted[0].Tally.Stages[1][rollout.Old].Calls != uint64(calls-drawn) {
		t.Errorf("counted %+v, want %d new calls", counted, drawn)
	}
	if again := tr.recorder.Report(false, func(*rollout.Trial) bool { return true }); len(again) != 0 {
		t.Error("what has no news was reported again")
	}
	if gone := tr.recorder.Report(true, func(*rollout.Trial) bool { return false }); len(gone) != 0 {
		t.Error("a trial that is over was reported")
	}
}

func BenchmarkDraw(b *testing.B) {
	for _, name := range []string{"on trial", "not on trial"} {
		b.Run(name, func(b *testing.B) {
			tr, tried, other := inTrial(b, .1)
			v := tried
			if name == "not on trial" {
				v = other
			}
			o := &lambda.Outcome{Class: lambda.OK, Duration: time.Millisecond}
			b.ReportAllocs()
			for b.Loop() {
				d, err := tr.Draw(v, "0f7c7d9e-0000-4000-8000-000000000000")
				if err != nil {
					b.Fatal(err)
				}
				if d.Trial != nil {
					tr.Count(v, &d, o)
				}
			}
		})
	}
}

// TestRolloutOperations asks as operators do.
func TestRolloutOperations(t *testing.T) {
	tr, _, _ := inTrial(t, .1)
	cat := tr.versions.catalog
	o := &operations{catalog: cat, log: slog.New(slog.DiscardHandler)}
	if _, err := o.rollout("python3.11", ""); lambda.CodeOf(err) != lambda.ResourceNotFound {
		t.Errorf("before the first rollout: %v", err)
	}
	now := time.Now()
	if err := cat.BeginRollout(t.Context(), &catalog.Rollout{ID: "r", Runtime: "python3.11", To: lambda.RuntimeVersionID(strings.Repeat("b", 64)), Phase: catalog.RolloutRunning, Began: now}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		action string
		code   lambda.Code
		phase  catalog.RolloutPhase
	}{
		{"pause", "", catalog.RolloutPaused}, {"resume", "", catalog.RolloutRunning}, {"jump", lambda.InvalidParameterValue, catalog.RolloutRunning},
		{"abort", "", catalog.RolloutAborted}, {"abort", lambda.ResourceConflict, catalog.RolloutAborted}, {"resume", lambda.ResourceConflict, catalog.RolloutAborted},
	} {
		_, err := o.changeRollout(t.Context(), "python3.11", step.action)
		if (err != nil || step.code != "") && lambda.CodeOf(err) != step.code {
			t.Errorf("%s: %v, want %q", step.action, err, step.code)
		}
		if r, _ := cat.Rollout("python3.11"); r.Phase != step.phase {
			t.Errorf("after %s: %s, want %s", step.action, r.Phase, step.phase)
		}
	}
	if s, _ := cat.RuntimeState("python3.11"); s.Candidate != "" || s.Rollout != "" {
		t.Errorf("after the abort: %+v", s)
	}
}
