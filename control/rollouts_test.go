package control

import (
	"fmt"
	"testing"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/rollout"
)

func TestG1_TenPercentOfCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		b.function("f", 200, works)
		b.control()
		b.runtime(versionA, versionB)
		if !b.until(10*time.Minute, func() bool { return b.trial("f").State.Stage == 1 }) {
			t.Fatal("the stage was not reached")
		}
		const calls = 5000
		before := b.total["f"].calls[versionB]
		for range calls { // at one moment
			b.call("f", lambda.Latest)
		}
		got := float64(b.total["f"].calls[versionB]-before) / calls
		t.Logf("%.1f %% of %d calls ran in the new version", 100*got, calls)
		if got < .07 || got > .13 {
			t.Errorf("%.3f of the calls ran in the new version", got)
		}
	})
}

func TestG2_PinnedWhenItBreaks(t *testing.T) {
	for name, c := range map[string]struct {
		conduct
		seen int // failed calls that callers may have seen
	}{
		"crash at init":        {breaks(lambda.InitErr, 1), 0},
		"new class of error":   {breaks(lambda.Exited, 1), 20},
		"three times slower":   {threeTimesSlower, 0},
		"out of memory":        {breaks(lambda.OutOfMemory, .5), 20},
		"fails for some input": {breaks(lambda.HandlerErr, .25), 25},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *trialBed) {
				b.function("f", 200, c.conduct)
				b.control()
				b.runtime(versionA, versionB)
				if !b.until(20*time.Minute, b.ended) {
					t.Fatal("the rollout does not end")
				}
				b.verdict("f", rollout.Incompatible)
				state := b.trial("f").State
				if state.Stage != 0 || state.Reason == "" || !b.trial("f").Pinned {
					t.Errorf("pinned at stage %d, %q", state.Stage, state.Reason)
				}
				t.Logf("%s; %d of %d calls ran in the new version, callers saw %d fail", state.Reason, b.total["f"].calls[versionB],
					b.total["f"].calls[versionB]+b.total["f"].calls[versionA], b.total["f"].failed[versionB])
				if n := b.total["f"].failed[versionB]; n > c.seen {
					t.Errorf("callers saw %d calls fail, at most %d may", n, c.seen)
				}
				before := b.total["f"].calls[versionB]
				b.run(time.Minute)
				if after := b.total["f"].calls[versionB]; after != before {
					t.Errorf("%d calls ran in the new version after the verdict", after-before)
				}
				if s, _ := b.catalog.RuntimeState(trialRuntime); s.Current != versionB || s.Candidate != "" {
					t.Errorf("the runtime is at %+v", s)
				}
			})
		})
	}
}

func TestG3_MovesThroughAllStages(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		b.function("f", 100, works)
		b.control()
		b.runtime(versionA, versionB)
		began := time.Now()
		var seen []int
		b.until(20*time.Minute, func() bool {
			if s := b.trial("f").State; !s.Since.IsZero() && (len(seen) == 0 || seen[len(seen)-1] != s.Stage) {
				seen = append(seen, s.Stage)
			}
			return b.ended()
		})
		b.verdict("f", rollout.Compatible)
		if fmt.Sprint(seen) != "[0 1 2 3]" {
			t.Errorf("stages %v", seen)
		}
		if took := time.Since(began); took < 3*b.plan.Pace {
			t.Errorf("three stages took %v", took)
		}
		for range 1000 {
			if got := b.call("f", lambda.Latest); got != versionB {
				t.Fatalf("a call ran in %.8s", got)
			}
		}
	})
}

// TestG4_G5_VerdictsAreIndependent: functions that fail equally in both versions are not pinned, whatever happens to others.
func TestG4_G5_VerdictsAreIndependent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		want := map[string]rollout.Verdict{}
		for i := range 12 {
			name := fmt.Sprintf("f%02d", i)
			switch {
			case i%3 == 0:
				b.function(name, 100, breaks(lambda.HandlerErr, 1))
				want[name] = rollout.Incompatible
			case i < 3:
				b.function(name, 100, failsInBoth)
				want[name] = rollout.Compatible
			default:
				b.function(name, 100, works)
				want[name] = rollout.Compatible
			}
		}
		b.control()
		b.runtime(versionA, versionB)
		if !b.until(3*time.Hour, b.ended) {
			t.Fatal("the rollout does not end")
		}
		for name, verdict := range want {
			b.verdict(name, verdict)
		}
	})
}

// TestG6_OneNoticePerVerdict, also when control processes are killed and two of them work at once.
func TestG6_G12_NoticesAndRestarts(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		for i := range 6 {
			b.function(fmt.Sprint("good", i), 100, works)
		}
		b.function("bad", 100, breaks(lambda.Exited, 1))
		b.function("rare", 1, works)
		b.perTick["rare"] = 0
		stop := b.control()
		b.runtime(versionA, versionB)
		kills := 0
		b.until(2*time.Hour, func() bool {
			if kills < 40 && b.rng.IntN(150) == 0 {
				kills++
				if kills%4 == 0 { // two for a while
					other := b.control()
					b.run(3 * time.Second)
					other()
				}
				stop()
				b.run(2 * time.Second)
				stop = b.control()
			}
			return b.ended()
		})
		if !b.ended() {
			t.Fatalf("the rollout is %q after %d kills", b.phase(), kills)
		}
		t.Logf("%d kills", kills)
		b.verdict("bad", rollout.Incompatible)
		b.verdict("rare", rollout.Undecided)
		told := map[string]rollout.Verdict{}
		b.mu.Lock()
		defer b.mu.Unlock()
		for id, same := range b.notices {
			n := same[0]
			if _, twice := told[n.Of.Name]; twice {
				t.Errorf("a second notice (%s) about %s: %s", id, n.Of.Name, n.Verdict)
			}
			told[n.Of.Name] = n.Verdict
			if n.Reason == "" || n.From != versionA || n.To != versionB {
				t.Errorf("notice %+v", n)
			}
		}
		for i := range 6 {
			if name := fmt.Sprint("good", i); told[name] != rollout.Compatible {
				t.Errorf("%s was told %q", name, told[name])
			}
		}
		if told["bad"] != rollout.Incompatible || told["rare"] != rollout.Undecided {
			t.Errorf("told %v", told)
		}
		if failed := b.total["bad"].failed[versionB]; failed > 60 {
			t.Errorf("%d failed calls before the pin, although control was away for seconds only", failed)
		}
	})
}

func TestG7_ACodeUpdateClearsTheVerdict(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		b.function("f", 100, breaks(lambda.Exited, 1))
		b.control()
		b.runtime(versionA, versionB)
		if !b.until(20*time.Minute, b.ended) {
			t.Fatal("the rollout does not end")
		}
		if got := b.call("f", lambda.Latest); got != versionA {
			t.Fatalf("a pinned function runs in %.8s", got)
		}
		b.conducts["f"] = works
		if _, _, err := b.catalog.Update(b.ctx, bedID("f"), "", false, func(v *catalog.Version) error { v.Code = "c0de2"; return nil }); err != nil {
			t.Fatal(err)
		}
		b.finish("f")
		if got := b.call("f", lambda.Latest); got != versionB {
			t.Errorf("after a code update it runs in %.8s", got)
		}
	})
}

func TestG8_ManualStaysAndPublishedVersionsFollow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		for _, name := range []string{"manual", "update", "auto"} {
			b.function(name, 100, works)
		}
		published, err := b.catalog.Publish(b.ctx, bedID("auto"), "", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, mode := range map[string]lambda.UpdateRuntimeOn{"manual": lambda.RuntimeManual, "update": lambda.RuntimeFunctionUpdate} {
			version := lambda.RuntimeVersionID("")
			if mode == lambda.RuntimeManual {
				version = versionA
			}
			if _, err := b.catalog.SetRuntimeManagement(b.ctx, bedID(name), "", mode, version); err != nil {
				t.Fatal(err)
			}
		}
		b.control()
		b.runtime(versionA, versionB)
		ended := b.until(time.Hour, func() bool {
			for range 10 {
				b.call("auto", published.Number)
			}
			return b.ended()
		})
		if !ended {
			t.Fatal("the rollout does not end")
		}
		for _, name := range []string{"manual", "update"} {
			if n := b.total[name].calls[versionB]; n > 0 {
				t.Errorf("%s: %d calls in the new version", name, n)
			}
		}
		if got := b.call("auto", published.Number); got != versionB {
			t.Errorf("the published version runs in %.8s", got)
		}
		if tr, _, ok := b.catalog.Trial(catalog.TrialOf{ID: bedID("auto"), Number: published.Number}); !ok || tr.State.Verdict != rollout.Compatible {
			t.Errorf("the published version's trial: %+v", tr)
		}
		if _, _, err := b.catalog.Update(b.ctx, bedID("update"), "", false, func(v *catalog.Version) error { v.MemoryMB++; return nil }); err != nil {
			t.Fatal(err)
		}
		b.finish("update")
		if got := b.call("update", lambda.Latest); got != versionB {
			t.Errorf("after its update it runs in %.8s", got)
		}
	})
}

func TestG13_PauseResumeAbort(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		b.function("good", 100, works)
		b.function("bad", 100, works)
		b.control()
		b.runtime(versionA, versionB)
		if !b.until(10*time.Minute, func() bool { return b.trial("good").State.Stage == 1 && b.trial("bad").State.Stage == 1 }) {
			t.Fatal("the second stage was not reached")
		}
		phase := func(p catalog.RolloutPhase) {
			t.Helper()
			if _, err := b.catalog.EditRollout(b.ctx, trialRuntime, func(r *catalog.Rollout) error { r.Phase = p; return nil }); err != nil {
				t.Fatal(err)
			}
		}
		phase(catalog.RolloutPaused)
		b.conducts["bad"] = breaks(lambda.Exited, 1)
		b.run(10 * time.Minute)
		if s := b.trial("good").State; s.Stage != 1 {
			t.Errorf("paused, it moved to stage %d", s.Stage)
		}
		b.verdict("bad", rollout.Incompatible) // a pause protects nobody from being pinned
		phase(catalog.RolloutRunning)
		if !b.until(10*time.Minute, func() bool { return b.trial("good").State.Stage == 2 }) {
			t.Error("resumed, it does not go on")
		}
		if _, err := b.catalog.EndRollout(b.ctx, trialRuntime, "", catalog.RolloutAborted, "an operator"); err != nil {
			t.Fatal(err)
		}
		before := b.total["good"].calls[versionB] // at once, without any control process having a hand in it
		b.run(5 * time.Minute)
		if after := b.total["good"].calls[versionB]; after != before {
			t.Errorf("%d calls in the new version after the abort", after-before)
		}
		if r, _ := b.catalog.Rollout(trialRuntime); !r.Cleaned || b.trial("bad").Pinned || b.trial("good").Candidate != "" {
			t.Errorf("after the abort: %+v, %+v", r, b.trial("good").RuntimeTrial)
		}
		b.runtime(versionA, versionB) // and once more from the beginning
		b.until(time.Minute, func() bool { return b.phase() == catalog.RolloutRunning && b.trial("good").Candidate != "" })
		if s := b.trial("good"); s.State.Stage != 0 || s.Fraction != .01 {
			t.Errorf("a new rollout begins at stage %d", s.State.Stage)
		}
	})
}

// TestUndecidedInBatches: functions without calls move after the others, a few at a time, and one that breaks then goes back.
func TestUndecidedInBatches(t *testing.T) {
	inBubble(t, func(t *testing.T, b *trialBed) {
		b.function("busy", 100, works)
		for i := range 20 {
			b.function(fmt.Sprintf("rare%02d", i), 0, works)
			b.perTick[fmt.Sprintf("rare%02d", i)] = 0
		}
		b.conducts["rare07"] = breaks(lambda.HandlerErr, 1)
		b.control()
		b.runtime(versionA, versionB)
		most, movedBefore := 0, 0
		ended := b.until(2*time.Hour, func() bool {
			moved := 0
			for i := range 20 {
				name := fmt.Sprintf("rare%02d", i)
				if b.trial(name).State.Stage == rollout.LastStage {
					moved++
				}
				if b.rng.IntN(50) == 0 {
					b.call(name, lambda.Latest)
				}
			}
			if moved > 0 && b.trial("busy").State.Verdict != rollout.Compatible {
				t.Fatal("functions without calls moved before the others had a verdict")
			}
			most, movedBefore = max(most, moved-movedBefore), moved
			return b.ended()
		})
		if !ended {
			t.Fatal("the rollout does not end")
		}
		if most > 2 {
			t.Errorf("%d functions moved at once, 2 of 20 are a batch", most)
		}
		b.verdict("rare07", rollout.Incompatible)
		b.verdict("rare08", rollout.Undecided)
		if n := b.total["rare07"].failed[versionB]; n > 4 {
			t.Errorf("%d calls failed before it went back", n)
		}
	})
}
