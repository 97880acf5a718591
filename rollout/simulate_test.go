package rollout

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"berth/lambda"
)

// behaviour is how a simulated function answers in one version.
type behaviour struct {
	failing float64 // share of calls
	kind    Kind
	usual   time.Duration // median
	spread  float64       // of the logarithm of durations
}

// simulated is a function with calls at some rate, in both versions.
type simulated struct {
	perSecond float64
	old, new  behaviour
	burst     float64 // in one of ten minutes everything fails with this probability, in both versions
}

// result of one simulated trial.
type result struct {
	state  State
	failed [Stages]uint64 // calls of the new group, by stage
	hurt   uint64         // calls that the function failed in the new version and a caller saw
	calls  uint64
	took   time.Duration
}

// simulate runs a trial in virtual time, one second a step, until it is settled.
func simulate(r *rand.Rand, p Plan, f simulated) result {
	began := time.Unix(0, 0)
	s := State{Since: began}
	var t Tally
	var mark time.Duration
	var res result
	for second := 1; ; second++ {
		now := began.Add(time.Duration(second) * time.Second)
		failures := t.Stages[s.Stage][New].Failures()
		for range poisson(r, f.perSecond) {
			group, b := Old, f.old
			if r.Float64() < s.Fraction() {
				group, b = New, f.new
			}
			g := &t.Stages[s.Stage][group]
			g.Calls++
			res.calls++
			storm := f.burst > 0 && second/60%10 == 0 && r.Float64() < f.burst
			if storm || r.Float64() < b.failing {
				kind := b.kind
				if storm {
					kind = HandlerError
				}
				g.Failed[kind]++
				if group == New {
					res.failed[s.Stage]++
					if kind != InitFailed {
						res.hurt++
					}
				}
				continue
			}
			d := time.Duration(float64(b.usual) * math.Exp(b.spread*r.NormFloat64()))
			g.Timed++
			if mark > 0 {
				g.Marked++
				if d > mark {
					g.Slow++
				}
			} else if group == Old {
				t.Times[bin(d)]++
			}
		}
		if mark == 0 {
			mark, _ = Mark(&t.Times)
		}
		if second%5 != 0 && t.Stages[s.Stage][New].Failures() == failures {
			continue // nothing that could make a difference: the real one looks too, but that takes time
		}
		if s = p.Next(s, &t.Stages, now, false); s.Waits() {
			s = Move(s, now)
		}
		if s.Settled(&p, now) {
			res.state, res.took = s, now.Sub(began)
			return res
		}
	}
}

func poisson(r *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(0, int(mean+math.Sqrt(mean)*r.NormFloat64()+.5))
	}
	n, left := 0, math.Exp(-mean)
	for p := r.Float64(); p > left; p *= r.Float64() {
		n++
	}
	return n
}

// quickPlan has no patience to spare: what has too few calls is undecided soon.
func quickPlan() Plan { return NewPlan(20 * time.Second) }

func fine() behaviour { return behaviour{usual: 40 * time.Millisecond, spread: .5} }

func broken(kind Kind, share float64) behaviour {
	b := fine()
	b.failing, b.kind = share, kind
	return b
}

// TestG4_FalsePins measures how often functions that do not differ are pinned: Alpha at most, whatever they are like. The bound
// allows for three standard deviations of the measurement.
func TestG4_FalsePins(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	kinds := []struct {
		name string
		f    simulated
	}{
		{"never fails", simulated{perSecond: 20, old: fine(), new: fine()}},
		{"fails at 1 %", simulated{perSecond: 20, old: broken(HandlerError, .01), new: broken(HandlerError, .01)}},
		{"fails at 20 %", simulated{perSecond: 20, old: broken(TimedOut, .2), new: broken(TimedOut, .2)}},
		{"fails always", simulated{perSecond: 5, old: broken(HandlerError, 1), new: broken(HandlerError, 1)}},
		{"fails in bursts", simulated{perSecond: 20, old: fine(), new: fine(), burst: .7}},
		{"durations all over", simulated{perSecond: 20, old: behaviour{usual: 80 * time.Millisecond, spread: 1.5}, new: behaviour{usual: 80 * time.Millisecond, spread: 1.5}}},
		{"a tenth slower", simulated{perSecond: 20, old: fine(), new: behaviour{usual: 44 * time.Millisecond, spread: .5}}},
		{"few calls", simulated{perSecond: .05, old: broken(HandlerError, .1), new: broken(HandlerError, .1)}},
		{"better than before", simulated{perSecond: 20, old: broken(Exited, .1), new: fine()}},
		{"another kind, equal", simulated{perSecond: 20, old: broken(Exited, .05), new: broken(Exited, .05)}},
	}
	const each = 500
	pins, all := 0, 0
	for _, k := range kinds {
		here := 0
		for range each {
			res := simulate(r, quickPlan(), k.f)
			if res.state.Verdict == Incompatible && !res.state.Moving {
				here++
			}
		}
		t.Logf("%-20s %d of %d pinned", k.name, here, each)
		pins, all = pins+here, all+each
	}
	t.Logf("false pins: %d of %d = %.4f, stated: at most %.4f", pins, all, float64(pins)/float64(all), Alpha)
	if limit := Alpha*float64(all) + 3*math.Sqrt(Alpha*float64(all)); float64(pins) > limit {
		t.Errorf("%d false pins of %d, at most %.0f are stated", pins, all, limit)
	}
}

// TestG2_Missed measures how often functions that are worse in the new version are not pinned: Beta at most, for those whose
// share of failures is what the plan says it detects; and at which stage, and how many of their calls it cost.
func TestG2_Missed(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 2))
	slow := behaviour{usual: 120 * time.Millisecond, spread: .5}
	p := quickPlan()
	for _, c := range []struct {
		name  string
		f     simulated
		first bool // all of them are to be found out in the first stage
	}{
		{"crash at init", simulated{perSecond: 20, old: fine(), new: broken(InitFailed, 1)}, true},
		{"handler error", simulated{perSecond: 20, old: fine(), new: broken(HandlerError, 1)}, true},
		{"out of memory", simulated{perSecond: 20, old: fine(), new: broken(OutOfMemory, 1)}, true},
		{"new error beside old ones", simulated{perSecond: 20, old: broken(HandlerError, .02), new: broken(Exited, .5)}, true},
		{"three times slower", simulated{perSecond: 20, old: fine(), new: slow}, true},
		{"some inputs: what stage 1 detects", simulated{perSecond: 20, old: fine(), new: broken(HandlerError, p.Detects(0))}, true},
		{"some inputs: what stage 2 detects", simulated{perSecond: 20, old: fine(), new: broken(HandlerError, p.Detects(1))}, false},
		{"some inputs: what stage 3 detects", simulated{perSecond: 20, old: fine(), new: broken(HandlerError, p.Detects(2))}, false},
		{"… of a function that fails at 2 %", simulated{perSecond: 20, old: broken(HandlerError, .02), new: broken(HandlerError, .02+p.Detects(1))}, false},
	} {
		const each = 500
		missed, late := 0, 0
		var hurt, calls, most uint64
		var at [Stages]int
		for range each {
			res := simulate(r, p, c.f)
			hurt, calls, most = hurt+res.hurt, calls+res.calls, max(most, res.hurt)
			at[res.state.Stage]++
			if res.state.Verdict != Incompatible {
				missed++
			}
			if res.state.Stage > 0 {
				late++
			}
		}
		t.Logf("%-36s missed %d of %d; pinned in stage %v; %.1f calls hurt in the mean, %d at most, %.3f %% of its calls",
			c.name, missed, each, at[:LastStage], float64(hurt)/each, most, 100*float64(hurt)/float64(calls))
		limit := int(Beta*each + 3*math.Sqrt(Beta*each))
		if missed > limit {
			t.Errorf("%s: %d of %d missed, at most %d are stated", c.name, missed, each, limit)
		}
		if c.first && late > limit {
			t.Errorf("%s: %d of %d left the first stage, at most %d are stated", c.name, late, each, limit)
		}
	}
}

// TestG_TenThousand is a whole fleet: 2 % incompatible in various ways, rates from one call in minutes to a hundred a second.
func TestG_TenThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 trials take some seconds")
	}
	r := rand.New(rand.NewPCG(7, 3))
	worse := []func() behaviour{
		func() behaviour { return broken(InitFailed, 1) },
		func() behaviour { return broken(HandlerError, 1) },
		func() behaviour { return broken(OutOfMemory, .5) },
		func() behaviour { return behaviour{usual: 120 * time.Millisecond, spread: .5} },
		func() behaviour { return broken(HandlerError, .1) }, // only some inputs
	}
	p := NewPlan(time.Minute)
	var falsePins, falseFew, missed, missedFew, bad, undecided, compatible int
	for i := range 10000 {
		f := simulated{perSecond: math.Pow(10, -2+3.5*r.Float64()), old: fine(), new: fine()}
		if r.Float64() < .3 {
			f.old = broken(HandlerError, .1*r.Float64())
			f.new = f.old
		}
		incompatible := i%50 == 0
		if incompatible {
			f.new = worse[i/50%len(worse)]()
			bad++
		}
		res := simulate(r, p, f)
		switch {
		case res.state.Verdict == Incompatible && !incompatible && res.state.Moving:
			falseFew++
		case res.state.Verdict == Incompatible && !incompatible:
			falsePins++
		case incompatible && res.state.Verdict == Undecided:
			missedFew++
		case incompatible && res.state.Verdict == Compatible:
			missed++
		case res.state.Verdict == Undecided:
			undecided++
		default:
			compatible++
		}
	}
	t.Logf("10,000 functions, %d incompatible: %d false pins (stated: %.0f at most), %d missed (stated: %.0f at most), %d compatible", bad, falsePins, Alpha*10000, missed, Beta*float64(bad), compatible)
	t.Logf("for want of calls undecided and moved last: %d compatible and %d incompatible ones; %d compatible ones pinned by the watch, for which no rate is stated", undecided, missedFew, falseFew)
	if falsePins > 10+9 || missed > 2+4 {
		t.Errorf("%d false pins, %d missed", falsePins, missed)
	}
}

func TestKindOf(t *testing.T) {
	for class, want := range map[lambda.Class]Kind{
		lambda.InitErr: InitFailed, lambda.HandlerErr: HandlerError, lambda.TimedOut: TimedOut, lambda.Exited: Exited,
		lambda.OutOfMemory: OutOfMemory, lambda.TooLarge: TooLarge,
	} {
		if k, failed := KindOf(&lambda.Outcome{Class: class}); !failed || k != want {
			t.Errorf("%s = %v, %v", class, k, failed)
		}
		if k, failed := KindOf(&lambda.Outcome{Class: class, Unseen: true}); !failed || k != InitFailed {
			t.Errorf("%s before the event = %v, %v; want InitFailed", class, k, failed)
		}
	}
	if _, failed := KindOf(&lambda.Outcome{Class: lambda.OK}); failed {
		t.Error("a success counts as failed")
	}
}

func TestBins(t *testing.T) {
	for d := 500 * time.Microsecond; d < 20*time.Minute; d += d / 37 {
		i := bin(d)
		if d > upper(i) && i < bins-1 || i > 0 && d <= upper(i-1)-upper(i-1)/50 {
			t.Fatal(fmt.Sprint(d, " is in bin ", i, " that ends at ", upper(i), ", the one before at ", upper(max(i-1, 0))))
		}
	}
}
