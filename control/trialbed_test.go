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
