package rollout

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// lastPatience is after how many times the patience a function is undecided whose calls neither pin it nor let it go on.
const lastPatience = 4

// Verdict is what was found out about a function version and a runtime version.
type Verdict string

// The verdicts; "" while the trial goes on.
const (
	Compatible   Verdict = "Compatible"   // it went through all stages
	Incompatible Verdict = "Incompatible" // it is worse in the new version: it stays in the old one
	Undecided    Verdict = "Undecided"    // it has too few calls to tell: moved last, and watched
)

// Plan says how much a stage needs.
type Plan struct {
	Calls    [LastStage]uint64 // calls in the new version, at least, in each stage
	Pace     time.Duration     // each stage takes this long at least; so does the watch over one that was moved undecided
	Patience time.Duration     // in a stage without enough calls, before the function is undecided
	Batch    float64           // of the undecided functions, moved at once; one at least
}

// Defaults of a Plan. Patience is patiencePaces times the pace.
const (
	DefaultPace   = 2 * time.Minute
	patiencePaces = 15
)

// DefaultCalls are the calls of a Plan.
var DefaultCalls = [LastStage]uint64{20, 50, 200}

// NewPlan is the plan at a pace (0 is DefaultPace), with these numbers of calls for the stages; those that are missing are DefaultCalls.
func NewPlan(pace time.Duration, calls ...int) Plan {
	if pace <= 0 {
		pace = DefaultPace
	}
	p := Plan{Calls: DefaultCalls, Pace: pace, Patience: patiencePaces * pace, Batch: 0.1}
	for i, n := range calls[:min(len(calls), LastStage)] {
		p.Calls[i] = uint64(max(1, n))
	}
	return p
}

// Detects is the share of calls that must fail in the new version only, for a function to be found out by the end of a stage
// with probability 1−Beta at least. The stage is left only when fewer than one in Calls of the new group have failed, beyond what
// the old version's failures let expect: when none of the first Calls has, or one of twice as many, and so on. The first of these is
// given noFailure of Beta; the others together have less than the rest.
func (p *Plan) Detects(stage int) float64 {
	const noFailure = 0.8
	return 1 - math.Pow(noFailure*Beta, 1/float64(p.Calls[stage]))
}

// State is where a trial stands.
type State struct {
	Stage   int       `json:"stage"`
	Since   time.Time `json:"since"` // when the stage began
	Verdict Verdict   `json:"verdict,omitempty"`
	Reason  string    `json:"reason,omitempty"` // of the verdict, for people
	Moving  bool      `json:"moving,omitempty"` // undecided, and its turn has come: it goes on whatever calls it has
}

// Fraction is the share of calls that run in the new version.
func (s *State) Fraction() float64 {
	if s.Verdict == Incompatible {
		return 0
	}
	return Fractions[s.Stage]
}

// Settled reports whether nothing is left to be done for the function: a rollout ends when all are.
func (s *State) Settled(p *Plan, now time.Time) bool {
	switch s.Verdict {
	case Compatible, Incompatible:
		return true
	case Undecided:
		return s.Stage == LastStage && now.Sub(s.Since) >= p.Pace
	}
	return false
}

// Waits reports whether the function is to be moved without a verdict, when its turn comes.
func (s *State) Waits() bool { return s.Verdict == Undecided && !s.Moving }

// Next says where the trial goes by its evidence: the same state when it stays. While paused only a finding against the new
// version moves anything.
func (p *Plan) Next(s State, e *Evidence, now time.Time, paused bool) State {
	if s.Verdict == Incompatible || s.Verdict == Compatible {
		return s
	}
	if s.Moving {
		if s = watch(s, e, now); s.Verdict == Incompatible || s.Stage == LastStage {
			return s
		}
	}
	if found := Compare(e); found.Factor >= 1/Alpha {
		return pin(s, now, found.text(e))
	}
	sum, before := e.Sum(New), e.Sum(Old)
	if unstartable(&sum) && !unstartable(&before) {
		return pin(s, now, fmt.Sprintf("%d of its environments could not be started", sum.Unstarted))
	}
	if paused {
		return s
	}
	old, new := &e[s.Stage][Old], &e[s.Stage][New]
	over := excess(s.Stage, old, new)
	switch waited := now.Sub(s.Since); {
	case waited < p.Pace:
		return s
	case s.Moving:
		if over == 0 || waited >= p.Patience {
			return Move(s, now)
		}
	case float64(new.Calls) >= float64(p.Calls[s.Stage])*(1+over):
		s.Stage, s.Since = s.Stage+1, now
		s.Verdict, s.Reason = "", ""
		if s.Stage == LastStage {
			s.Verdict = Compatible
			s.Reason = fmt.Sprintf("%d calls in the new version were no worse than %d in the old one", sum.Calls, before.Calls)
		}
	case s.Verdict == "" && (waited >= p.Patience && new.Calls < p.Calls[s.Stage] || waited >= lastPatience*p.Patience):
		s.Verdict = Undecided
		s.Reason = fmt.Sprintf("%d calls in the new version, of which %d failed, are too few to tell; a stage needs %d", new.Calls, new.Failures(), p.Calls[s.Stage])
	}
	return s
}

// excess is how many more calls failed in the new version than the old one's failures let expect, with a standard deviation for
// chance (those of two Poisson counts): a function that fails often would wait for ever otherwise. A stage is left when that is
// less than one in as many calls as it needs. Slow calls are common; they count from twice of what is tolerated on.
func excess(stage int, old, new *Group) float64 {
	f := Fractions[stage]
	odds := f / (1 - f)
	expected := odds * float64(old.Failures())
	over := float64(new.Failures()) - expected - math.Sqrt(expected*(1+odds))
	slow := 0.0
	if old.Marked > 0 {
		slow = float64(new.Slow) - 2*slowTolerance*float64(new.Marked)*float64(old.Slow)/float64(old.Marked)
	}
	return max(0, over) + max(0, slow)
}

// unstartable: the platform failed more often than not to make environments. No caller has seen that (G10).
func unstartable(g *Group) bool { return g.Unstarted >= 3 && g.Unstarted > g.Calls }

// Move brings an undecided function to the next stage, which lasts a Pace, or a Patience if calls fail that did not before.
func Move(s State, now time.Time) State {
	s.Stage, s.Since, s.Moving = s.Stage+1, now, true
	return s
}

// watched is how many calls of a function that was moved undecided must fail before it is moved back.
const watched = 2

// watch looks at a function that goes on with too few calls to tell. With so few no error rate can be promised: it is moved back
// when several calls fail in the new version, most of them do, and most did not in the old one.
func watch(s State, e *Evidence, now time.Time) State {
	old, new := e.Sum(Old), e.Sum(New)
	switch {
	case new.Unstarted >= watched && new.Unstarted > new.Calls:
		return pin(s, now, fmt.Sprintf("%d of its environments could not be started", new.Unstarted))
	case new.Failures() >= watched && 2*new.Failures() >= new.Calls && 2*old.Failures() < max(old.Calls, 1):
		return pin(s, now, fmt.Sprintf("moved with few calls, of which %d of %d failed (%s); in the old version %d of %d did",
			new.Failures(), new.Calls, kindsOf(&new), old.Failures(), old.Calls))
	}
	return s
}

// pin keeps the stage: it shows when it was found out.
func pin(s State, now time.Time, reason string) State {
	s.Verdict, s.Since, s.Reason = Incompatible, now, reason
	return s
}

// text says for people what was found.
func (f Finding) text(e *Evidence) string {
	old, new := e.Sum(Old), e.Sum(New)
	if f.Kind == Slow {
		return fmt.Sprintf("slower: %d of %d calls took more than twice the usual time in the new version, %d of %d in the old one (mean %s, before %s)",
			new.Slow, new.Marked, old.Slow, old.Marked, new.Mean().Round(time.Millisecond), old.Mean().Round(time.Millisecond))
	}
	return fmt.Sprintf("%d of %d calls failed in the new version (%s), %d of %d in the old one",
		new.Failures(), new.Calls, kindsOf(&new), old.Failures(), old.Calls)
}

func kindsOf(g *Group) string {
	var parts []string
	for k, n := range g.Failed {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", Kind(k), n))
		}
	}
	return strings.Join(parts, ", ")
}

// The mark: a call that takes longer than markFactor times the median in the old version, and markLeast more, is slow.
const (
	markFactor = 2
	markLeast  = 5 * time.Millisecond
	markCalls  = 50 // of the old version, before there is a mark
)

// Mark is the duration from which calls count as slow; false while too few of the old version are known. It is taken once: calls
// before it are not compared, so that the test's draws stay independent of it.
func Mark(t *Times) (time.Duration, bool) {
	var sum, below uint64
	for _, n := range t {
		sum += n
	}
	if sum < markCalls {
		return 0, false
	}
	for i, n := range t {
		if below += n; 2*below >= sum {
			return max(markFactor*upper(i), upper(i)+markLeast), true
		}
	}
	return 0, false
}
