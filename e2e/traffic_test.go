package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/client"
)

// marked is a function that says which environment ran a call, as how manieth, and when by the machine's clock; and which call
// that was, so that nobody gets another's answer.
const marked = `import time, uuid
environment, calls = uuid.uuid4().hex, 0
def handler(event, context):
    global calls
    calls += 1
    begin = time.time()
    time.sleep(event.get("hold", 0))
    return {"environment": environment, "calls": calls, "begin": begin, "end": time.time(), "call": event.get("call")}
`

// mark is its answer.
type mark struct {
	Environment string
	Calls       int
	Begin, End  float64 // seconds
	Call        uint64
}

// balancer spreads calls over frontends as a load balancer does: where a connection is refused nobody listens, and the next one
// is asked. It is told of nothing else, and repeats nothing, unless tries says how often a call is sent whose connection is lost.
type balancer struct {
	mu        sync.Mutex
	frontends []*client.Client
	tries     int
	turn      atomic.Uint64
	refused   atomic.Int64
	lost      atomic.Int64 // connections, with no answer on them
}

// sdkTries and sdkPause are as AWS's SDKs have them: three attempts, and on average half a second before the second.
const (
	sdkTries = 3
	sdkPause = 500 * time.Millisecond
)

func (b *balancer) add(c *client.Client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.frontends = append(b.frontends, c)
}

func (b *balancer) all() []*client.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.frontends)
}

func (b *balancer) invoke(ctx context.Context, in *awslambda.InvokeInput) (out *awslambda.InvokeOutput, err error) {
	for try := 1; ; try++ {
		out, err = b.once(ctx, in)
		if lost := (retry.RetryableConnectionError{}).IsErrorRetryable(err) == aws.TrueTernary; !lost || ctx.Err() != nil || try >= b.tries {
			return out, err
		}
		b.lost.Add(1)
		time.Sleep(sdkPause)
	}
}

// once sends a call to the frontend whose turn it is, or the next one that listens.
func (b *balancer) once(ctx context.Context, in *awslambda.InvokeInput) (out *awslambda.InvokeOutput, err error) {
	all := b.all()
	turn := b.turn.Add(1)
	for i := range all {
		out, err = all[(turn+uint64(i))%uint64(len(all))].Lambda.Invoke(ctx, in)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return out, err
		}
		b.refused.Add(1)
	}
	return out, err
}

// answer is what became of one call.
type answer struct {
	number       uint64
	function     string
	began, ended time.Time
	mark         mark
	err          error
}

func (a *answer) took() time.Duration { return a.ended.Sub(a.began) }

// callWithin bounds one call: what takes longer has no answer.
const callWithin = time.Minute

// callMarked calls a marked function once.
func (b *balancer) callMarked(number uint64, name string, hold time.Duration) (a answer) {
	a = answer{number: number, function: name, began: time.Now()}
	payload := fmt.Appendf(nil, `{"hold":%v,"call":%d}`, hold.Seconds(), number)
	ctx, cancel := context.WithTimeout(context.Background(), callWithin)
	defer cancel()
	out, err := b.invoke(ctx, &awslambda.InvokeInput{FunctionName: &name, Payload: payload})
	a.ended = time.Now()
	switch {
	case err != nil:
		a.err = err
	case out.FunctionError != nil:
		a.err = fmt.Errorf("the function failed: %s", out.Payload)
	default:
		if a.err = json.Unmarshal(out.Payload, &a.mark); a.err == nil && a.mark.Call != number {
			a.err = fmt.Errorf("call %d got the answer %s", number, out.Payload)
		}
	}
	return a
}

// traffic is a steady stream of calls: each has its time, whatever became of the others. A generator that was held up by a busy machine
// catches up, so that as many calls are made as were meant.
type traffic struct {
	to      *balancer
	names   []string
	every   time.Duration
	hold    time.Duration
	stop    func() *traffic // returns itself, all calls having ended
	mu      sync.Mutex
	answers []answer
}

// maxOpen bounds the calls that are open at once: a machine that is slower than the traffic must not start an environment for each
// call that it owes.
const maxOpen = 32

// startTraffic begins to call the functions in turns. It ends with the test at the latest.
func startTraffic(t testing.TB, to *balancer, every, hold time.Duration, names ...string) *traffic {
	f := &traffic{to: to, names: names, every: every, hold: hold}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.run(ctx) })
	f.stop = sync.OnceValue(func() *traffic { cancel(); running.Wait(); return f })
	t.Cleanup(func() { f.stop() })
	return f
}

func (f *traffic) run(ctx context.Context) {
	var open sync.WaitGroup
	defer open.Wait()
	places := make(chan struct{}, maxOpen)
	began := time.Now()
	for n := uint64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(time.Duration(n) * f.every))):
		}
		places <- struct{}{}
		open.Go(func() {
			defer func() { <-places }()
			a := f.to.callMarked(n, f.names[n%uint64(len(f.names))], f.hold)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.answers = append(f.answers, a)
		})
	}
}

// seen returns the answers so far.
func (f *traffic) seen() []answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.answers)
}

// failed returns the calls without a good answer.
func failed(answers []answer) []answer {
	return slices.DeleteFunc(slices.Clone(answers), func(a answer) bool { return a.err == nil })
}

// cold counts the calls that were the first of their environment.
func cold(answers []answer) (n int) {
	for _, a := range answers {
		if a.err == nil && a.mark.Calls == 1 {
			n++
		}
	}
	return n
}

// summary says in one line how calls went.
func summary(answers []answer) string {
	if len(answers) == 0 {
		return "no calls"
	}
	took := make([]time.Duration, len(answers))
	first, last := answers[0].began, answers[0].began
	for i, a := range answers {
		took[i] = a.took()
		if a.began.Before(first) {
			first = a.began
		}
		if a.began.After(last) {
			last = a.began
		}
	}
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return took[min(len(took)-1, int(q*float64(len(took))))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("%d calls begun in %v (%.0f/s), %d failed, %d cold, p50 %v, p99 %v, max %v", len(answers), last.Sub(first).Round(100*time.Millisecond),
		float64(len(answers)-1)/max(last.Sub(first), time.Millisecond).Seconds(), len(failed(answers)), cold(answers), at(0.5), at(0.99), at(1))
}

// reportFailures makes failed calls errors of the test, some of them with their words.
func reportFailures(t testing.TB, answers []answer) {
	t.Helper()
	const most = 10
	bad := failed(answers)
	for i, a := range bad {
		if i == most {
			break
		}
		t.Logf("call %d of %s, begun %v, took %v: %v", a.number, a.function, a.began.Format("15:04:05.000"), a.took(), a.err)
	}
	if len(bad) > 0 {
		t.Errorf("%d of %d calls failed", len(bad), len(answers))
	}
}

// checkAlone fails the test if an environment ran two calls at once (I1).
func checkAlone(t testing.TB, answers []answer) {
	t.Helper()
	ran := map[string][]mark{}
	for _, a := range answers {
		if a.err == nil {
			ran[a.mark.Environment] = append(ran[a.mark.Environment], a.mark)
		}
	}
	for environment, marks := range ran {
		slices.SortFunc(marks, func(a, b mark) int { return cmp.Compare(a.Calls, b.Calls) })
		for i := 1; i < len(marks); i++ {
			if marks[i].Begin < marks[i-1].End || marks[i].Calls == marks[i-1].Calls {
				t.Errorf("environment %s ran %+v and %+v at once", environment, marks[i-1], marks[i])
			}
		}
	}
}

// intervals are the times at which a function's calls ran.
func intervals(answers []answer, function string) (ran []interval) {
	for _, a := range answers {
		if a.err == nil && a.function == function {
			ran = append(ran, interval{a.mark.Begin, a.mark.End})
		}
	}
	return ran
}

// idleSet makes so many calls of each function at once, so that each runs in an environment of its own, and returns the
// environments and how many of them were new. The calls are repeated, longer, while a busy machine has them follow one another.
func idleSet(t testing.TB, to *balancer, each map[string]int) (environments map[string]map[string]bool, started int) {
	t.Helper()
	environments = map[string]map[string]bool{}
	var mu sync.Mutex
	var asking sync.WaitGroup
	places := make(chan struct{}, 4) // functions at the same time: the machine may be small
	for name, n := range each {
		asking.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			found, cold := environmentsOf(t, to, name, n)
			mu.Lock()
			defer mu.Unlock()
			environments[name] = found
			started += cold
		})
	}
	asking.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return environments, started
}

func environmentsOf(t testing.TB, to *balancer, name string, n int) (environments map[string]bool, started int) {
	t.Helper()
	environments = map[string]bool{}
	for hold := time.Duration(min(n-1, 1)) * 300 * time.Millisecond; len(environments) < n; hold = 2 * max(hold, 100*time.Millisecond) {
		answers := make([]answer, n)
		var calls sync.WaitGroup
		for i := range answers {
			calls.Go(func() { answers[i] = to.callMarked(uint64(i+1), name, hold) })
		}
		calls.Wait()
		for _, a := range answers {
			if a.err != nil {
				t.Errorf("calling %s: %v", name, a.err)
				return environments, started
			}
			environments[a.mark.Environment] = true
		}
		started += cold(answers)
		if hold > 20*time.Second {
			t.Errorf("%d calls of %s do not run at once", n, name)
			break
		}
	}
	return environments, started
}

// kept counts the environments of before that are in after too.
func kept(before, after map[string]map[string]bool) (survived, of int) {
	for name, set := range before {
		for e, was := range set {
			if was {
				of++
			}
			if was && after[name][e] {
				survived++
			}
		}
	}
	return survived, of
}
