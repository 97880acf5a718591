package control

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/rollout"
	"berth/store/memory"
)

const trialRuntime = "python3.11"

var (
	versionA = lambda.RuntimeVersionID(strings.Repeat("a", 64))
	versionB = lambda.RuntimeVersionID(strings.Repeat("b", 64))
)

// conduct is how a function answers in a version of its runtime.
type conduct func(version lambda.RuntimeVersionID, r *rand.Rand) lambda.Outcome

func works(lambda.RuntimeVersionID, *rand.Rand) lambda.Outcome {
	return lambda.Outcome{Class: lambda.OK, Duration: 30 * time.Millisecond}
}

// breaks fails calls in B only, a share of them.
func breaks(class lambda.Class, share float64) conduct {
	return func(v lambda.RuntimeVersionID, r *rand.Rand) lambda.Outcome {
		o := works(v, r)
		if v == versionB && r.Float64() < share {
			o.Class, o.Unseen = class, class == lambda.InitErr
		}
		return o
	}
}

func failsInBoth(v lambda.RuntimeVersionID, r *rand.Rand) lambda.Outcome {
	o := works(v, r)
	if r.Float64() < .3 {
		o.Class = lambda.HandlerErr
	}
	return o
}

func threeTimesSlower(v lambda.RuntimeVersionID, r *rand.Rand) lambda.Outcome {
	o := works(v, r)
	if v == versionB {
		o.Duration *= 3
	}
	return o
}

// ran is what became of one function's calls.
type ran struct {
	calls  map[lambda.RuntimeVersionID]int
	failed map[lambda.RuntimeVersionID]int // those that a caller saw fail
}

// trialBed is a catalog with functions that are called all the time, from two frontends that count, and control processes that
// hear them. Everything happens in virtual time.
type trialBed struct {
	t        *testing.T
	catalog  *catalog.Catalog
	rng      *rand.Rand
	plan     rollout.Plan
	conducts map[string]conduct
	perTick  map[string]int // calls in 100 ms
	request  int

	mu        sync.Mutex
	total     map[string]*ran
	receivers map[int]func(string, []rollout.Counted)
	nextID    int
	notices   map[string][]*Notice // by id
	fronts    []*rollout.Recorder
	ctx       context.Context
	work      sync.WaitGroup
}

const bedTick = 100 * time.Millisecond

func newTrialBed(t *testing.T) *trialBed {
	b := &trialBed{
		t: t, catalog: catalog.New(memory.NewCatalog(), "us-east-1"), rng: rand.New(rand.NewPCG(1, 2)), plan: rollout.NewPlan(20 * time.Second),
		conducts: map[string]conduct{}, perTick: map[string]int{}, total: map[string]*ran{},
		receivers: map[int]func(string, []rollout.Counted){}, notices: map[string][]*Notice{},
		fronts: []*rollout.Recorder{rollout.NewRecorder(), rollout.NewRecorder()},
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.ctx = ctx
	b.work.Go(func() { _ = b.catalog.Run(ctx) })
	t.Cleanup(func() { cancel(); b.work.Wait() })
	<-b.catalog.Ready()
	for _, id := range []lambda.RuntimeVersionID{versionA, versionB} {
		if _, err := b.catalog.AddRelease(ctx, trialRuntime, lambda.RuntimeRelease{ID: id, Source: "test"}); err != nil {
			t.Fatal(err)
		}
	}
	b.runtime(versionA, "")
	return b
}

func (b *trialBed) runtime(current, candidate lambda.RuntimeVersionID) {
	b.t.Helper()
	_, err := b.catalog.EditRuntime(b.ctx, trialRuntime, func(s *lambda.RuntimeState) error {
		s.Current, s.Candidate = current, candidate
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func bedID(name string) catalog.ID { return catalog.ID{Account: "000000000001", Name: name} }

// function makes a function that gets so many calls in a second.
func (b *trialBed) function(name string, perSecond int, c conduct) {
	b.t.Helper()
	_, _, err := b.catalog.Create(b.ctx, catalog.Version{
		Version: lambda.Version{Account: "000000000001", Function: name, Code: "c0de", Runtime: trialRuntime, Handler: "h.handler", MemoryMB: 128,
			Timeout: 3 * time.Second, EphemeralMB: 512, Logging: lambda.Logging{Format: lambda.Text, Group: "/aws/lambda/" + name}},
		CodeSize: 100, CodeSHA256: "sha", Architecture: "x86_64",
	}, map[string]string{"berth:rollout-notice": "arn:berth:nats:::owner"}, false)
	if err != nil {
		b.t.Fatal(err)
	}
	b.finish(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conducts[name], b.perTick[name] = c, max(1, perSecond/10)
	b.total[name] = &ran{map[lambda.RuntimeVersionID]int{}, map[lambda.RuntimeVersionID]int{}}
}

func (b *trialBed) finish(name string) {
	b.t.Helper()
	v, _ := b.catalog.Version(bedID(name), lambda.Latest)
	if err := b.catalog.Finish(b.ctx, catalog.Work{ID: bedID(name), Number: lambda.Latest}, v.ConfigID, nil); err != nil {
		b.t.Fatal(err)
	}
}

// control runs a control process's task; stop kills it.
func (b *trialBed) control() (stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	task := Rollouts(RolloutConfig{
		Catalog: b.catalog, Plan: b.plan, Log: slog.New(slog.DiscardHandler),
		Counts: func(receive func(string, []rollout.Counted)) (func(), error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.nextID++
			id := b.nextID
			b.receivers[id] = receive
			return func() { b.mu.Lock(); delete(b.receivers, id); b.mu.Unlock() }, nil
		},
		Notify: func(_ context.Context, n *Notice) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.notices[n.ID] = append(b.notices[n.ID], n)
			return nil
		},
	})
	done := make(chan struct{})
	b.work.Go(func() { defer close(done); _ = task.Run(ctx) })
	return func() { cancel(); <-done }
}

// run lets time pass, with calls.
func (b *trialBed) run(d time.Duration) {
	b.until(d, func() bool { return false })
}

// until lets time pass until something holds, and reports whether it came to that.
func (b *trialBed) until(limit time.Duration, holds func() bool) bool {
	for end, tick := time.Now().Add(limit), 0; time.Now().Before(end); tick++ {
		if holds() {
			return true
		}
		for name, n := range b.perTick {
			for range n {
				b.call(name, lambda.Latest)
			}
		}
		if tick%10 == 9 {
			b.report(tick%100 == 99)
		}
		time.Sleep(bedTick)
	}
	return holds()
}

// call does what a frontend does.
func (b *trialBed) call(name, number string) lambda.RuntimeVersionID {
	b.request++
	request := fmt.Sprintf("request-%d", b.request)
	full, ok := b.catalog.Version(bedID(name), number)
	if !ok {
		return ""
	}
	v := &full.Version
	choice := b.catalog.RuntimeChoice(v)
	version, group := choice.Version, rollout.Old
	if choice.Trial != nil && rollout.Draw(choice.Trial.ID, request, choice.Fraction) {
		version, group = choice.Candidate, rollout.New
	}
	o := b.conducts[name](version, b.rng)
	if choice.Trial != nil {
		of := rollout.Trial{ID: choice.Trial.ID, Account: v.Account, Function: v.Function, Number: v.Number}
		b.fronts[b.request%2].Count(&of, choice.Trial.Stage, group, choice.Trial.Mark, &o)
	}
	total := b.total[name]
	total.calls[version]++
	if o.Unseen && group == rollout.New {
		o = b.conducts[name](choice.Version, b.rng) // G10: see frontend
	}
	if o.Class != lambda.OK {
		total.failed[version]++
	}
	return version
}

// report sends what the frontends counted, sometimes twice, sometimes not at all.
func (b *trialBed) report(all bool) {
	for i, f := range b.fronts {
		counted := f.Report(all, func(*rollout.Trial) bool { return true })
		b.mu.Lock()
		for _, receive := range b.receivers {
			for range b.rng.IntN(3) {
				receive(fmt.Sprintf("2026-%d", i), counted)
			}
		}
		b.mu.Unlock()
	}
}

func (b *trialBed) trial(name string) *catalog.Trial {
	t, _, _ := b.catalog.Trial(catalog.TrialOf{ID: bedID(name), Number: lambda.Latest})
	if t == nil {
		return &catalog.Trial{}
	}
	return t
}

func (b *trialBed) phase() catalog.RolloutPhase {
	r, ok := b.catalog.Rollout(trialRuntime)
	if !ok {
		return ""
	}
	return r.Phase
}

func (b *trialBed) ended() bool { return b.phase() == catalog.RolloutDone }

func (b *trialBed) verdict(name string, want rollout.Verdict) {
	b.t.Helper()
	if s := b.trial(name).State; s.Verdict != want {
		b.t.Errorf("%s is %q in stage %d (%s), want %q", name, s.Verdict, s.Stage, s.Reason, want)
	}
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, test func(*testing.T, *trialBed)) {
	synctest.Test(t, func(t *testing.T) { test(t, newTrialBed(t)) })
}

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
		for i := range 24 {
			name := fmt.Sprintf("f%02d", i)
			switch i % 4 {
			case 0:
				b.function(name, 100, breaks(lambda.HandlerErr, 1))
				want[name] = rollout.Incompatible
			case 1:
				b.function(name, 100, failsInBoth)
				want[name] = rollout.Compatible
			default:
				b.function(name, 100, works)
				want[name] = rollout.Compatible
			}
		}
		b.control()
		b.runtime(versionA, versionB)
		if !b.until(40*time.Minute, b.ended) {
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
