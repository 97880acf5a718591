package replay

import (
	"math/rand/v2"
	"slices"
	"time"

	"berth/manager"
)

// Result is what a policy came to on a trace.
type Result struct {
	Name    string
	Calls   int
	Cold    int
	Ahead   int       // environments made ahead of a call
	BusyGBh float64   // memory held by calls that ran
	IdleGBh float64   // memory held by environments that waited
	Shares  []float64 // each function's share of cold starts, sorted
}

// ColdShare is the share of calls that waited for a new environment.
func (r *Result) ColdShare() float64 { return float64(r.Cold) / float64(max(1, r.Calls)) }

// GBh is all memory held.
func (r *Result) GBh() float64 { return r.BusyGBh + r.IdleGBh }

// Added is the latency that cold starts add at a quantile of all calls.
func (r *Result) Added(quantile float64, coldStart time.Duration) time.Duration {
	if r.ColdShare() > 1-quantile {
		return coldStart
	}
	return 0
}

// FunctionShare is a quantile of the functions' shares of cold starts.
func (r *Result) FunctionShare(quantile float64) float64 {
	if len(r.Shares) == 0 {
		return 0
	}
	return r.Shares[min(int(quantile*float64(len(r.Shares))), len(r.Shares)-1)]
}

// Run replays a trace. Calls of one minute come at random instants of it, the same ones for each policy.
func Run(name string, functions []Function, policy manager.KeepAlive, seed uint64) *Result {
	r := &Result{Name: name}
	states := make([]function, len(functions))
	for i := range states {
		states[i] = function{
			trace: &functions[i], habit: policy.Function(int(functions[i].MemoryMB)),
			rng: rand.New(rand.NewPCG(seed, uint64(i))), result: r,
		}
	}
	for minute := range MinutesPerDay {
		for i := range states {
			states[i].minute(minute)
		}
	}
	for i := range states {
		f := &states[i]
		f.until(MinutesPerDay * time.Minute)
		if f.calls > 0 {
			r.Shares = append(r.Shares, float64(f.cold)/float64(f.calls))
		}
	}
	slices.Sort(r.Shares)
	return r
}

// function is one function under way. Times are since the begin of the day.
type function struct {
	trace  *Function
	habit  manager.Habit
	rng    *rand.Rand
	result *Result

	ends        []time.Duration // of the calls that run, ascending
	warm        []time.Duration // since when idle environments wait: a stack, the last used on top
	clock       time.Duration   // when idle environments were last looked at
	calls, cold int
	arrivals    []time.Duration
}

// look is how often idle environments are looked at.
const look = 5 * time.Second

// day is where the clock of policies starts.
var day = time.Unix(1<<30, 0)

func (f *function) minute(m int) {
	n := int(f.trace.Calls[m])
	begin := time.Duration(m) * time.Minute
	f.arrivals = f.arrivals[:0]
	for range n {
		f.arrivals = append(f.arrivals, begin+time.Duration(f.rng.Int64N(int64(time.Minute))))
	}
	slices.Sort(f.arrivals)
	for _, at := range f.arrivals {
		f.call(at)
	}
	f.until(begin + time.Minute)
}

func (f *function) call(at time.Duration) {
	f.until(at)
	f.calls++
	f.result.Calls++
	f.habit.Began(day.Add(at))
	if n := len(f.warm); n > 0 {
		f.result.IdleGBh += f.gbh(at - f.warm[n-1])
		f.warm = f.warm[:n-1]
	} else {
		f.cold++
		f.result.Cold++
	}
	took := f.runTime()
	f.result.BusyGBh += f.gbh(took)
	end := at + took
	i, _ := slices.BinarySearch(f.ends, end)
	f.ends = slices.Insert(f.ends, i, end)
}

// until lets time pass: calls end, and environments end or are made as the policy wants.
func (f *function) until(at time.Duration) {
	for {
		next := f.clock + look
		if len(f.ends) > 0 && f.ends[0] <= min(at, next) {
			f.habit.Ended(day.Add(f.ends[0]))
			f.warm = append(f.warm, f.ends[0])
			f.ends = slices.Delete(f.ends, 0, 1)
			continue
		}
		if next > at {
			return
		}
		f.clock = next
		f.adjust(next)
	}
}

func (f *function) adjust(now time.Duration) {
	keep, ahead := f.habit.Wanted(day.Add(now))
	if end := len(f.warm) - keep; end > 0 {
		for _, since := range f.warm[:end] {
			f.result.IdleGBh += f.gbh(now - since)
		}
		f.warm = slices.Delete(f.warm, 0, end)
	}
	for len(f.warm) < ahead {
		f.result.Ahead++
		f.warm = append(f.warm, now)
	}
}

func (f *function) gbh(d time.Duration) float64 { return f.trace.MemoryMB / 1024 * d.Hours() }

// runTime draws from the function's percentiles, linear between them.
func (f *function) runTime() time.Duration {
	x := 100 * f.rng.Float64()
	i := 1
	for percentiles[i] < x {
		i++
	}
	low, high := f.trace.RunTimes[i-1], f.trace.RunTimes[i]
	ms := low + (high-low)*(x-percentiles[i-1])/(percentiles[i]-percentiles[i-1])
	return time.Duration(ms * float64(time.Millisecond))
}
