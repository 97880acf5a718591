package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"berth/lambda"
	"berth/sandbox"
)

const (
	// turnsEach is how many environments start at the same time for each processor. More than one, for a start waits for the disk,
	// and for other processes, too.
	turnsEach = 4
	// turnLook is how often starts are looked at while others wait.
	turnLook = 50 * time.Millisecond
	// turnUse is how much processor time a start that works uses between two looks. One that uses less only waits: for the network, for
	// a time, or for a call of another function, whose start may be waiting here. While the processors are busy it may be for these that
	// it waits, so that is certain only after some looks.
	turnUse  = time.Millisecond
	turnIdle = 0.2 // of the processors' time: if more was idle of late, they are not busy
	turnSure = 4   // looks
	// turnLimit is how long a start keeps its turn at most, turnWait how long one waits for it at most: then it goes on without.
	turnLimit = 2 * time.Second
	turnWait  = 30 * time.Second
)

// turns lets only some environments start at a time, and the others wait for their turn. A start is work for a processor, most of it
// the function's own init phase, which has a time limit: of three hundred at once none would be done before all are, and none in time.
// So no start waits for another that only waits itself:
//
//   - a turn ends with its start, or when the start's sandbox uses no processor, or after a time limit; the start goes on without,
//   - starts that a call waits for are first, then those of the account, and then of the function, that has the fewest turns now,
//   - those made ahead have half of the turns at most.
type turns struct {
	most        int
	limit, wait time.Duration  // turnLimit and turnWait, but in tests
	spawn       func(func())   // starts a goroutine that somebody waits for
	idle        func() float64 // share of the processors' time

	mu       sync.Mutex
	held     []*turn
	waiting  []*turn // oldest first
	watching bool    // watch runs, as it does while some wait
}

// turn is what one start has or waits for.
type turn struct {
	of      *turns
	account lambda.AccountID
	name    string
	ahead   bool
	came    chan struct{} // closed when a turn that was waited for has come; nil if it came at once
	since   time.Time     // when it began to wait, then when it got its turn

	box    meter // guarded by of.mu, as all below; nil as long as there is none
	looked bool
	used   int64 // nanoseconds of a processor, when it was looked at last
	rested int   // looks that found it using nothing
}

// meter is what is asked of a sandbox.
type meter interface {
	Usage(context.Context) (sandbox.Usage, error)
}

func newTurns(most int, idle func() float64, spawn func(func())) *turns {
	if idle == nil {
		idle = func() float64 { return 1 }
	}
	return &turns{most: most, limit: turnLimit, wait: turnWait, idle: idle, spawn: spawn}
}

// enter waits for a turn, or until ctx ends. After nil, leave must follow.
func (q *turns) enter(ctx context.Context, v *lambda.Version, ahead bool) (*turn, error) {
	t := &turn{of: q, account: v.Account, name: v.Function, ahead: ahead, since: time.Now()}
	q.mu.Lock()
	if len(q.waiting) == 0 && q.room(t) {
		q.held = append(q.held, t)
		q.mu.Unlock()
		return t, nil
	}
	t.came = make(chan struct{})
	q.waiting = append(q.waiting, t)
	q.admit() // it goes before those made ahead
	if len(q.waiting) > 0 && !q.watching {
		q.watching = true
		q.spawn(q.watch)
	}
	q.mu.Unlock()
	select {
	case <-t.came:
		return t, nil
	case <-ctx.Done():
		t.leave()
		return nil, ctx.Err()
	}
}

// leave ends a turn, if it has not ended before, or the waiting for it.
func (t *turn) leave() {
	q := t.of
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.held, t); i >= 0 {
		q.held = slices.Delete(q.held, i, i+1)
	} else if i := slices.Index(q.waiting, t); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	q.admit()
}

// uses says in which sandbox the start goes on.
func (t *turn) uses(box meter) {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	t.box = box
}

// room reports whether there is a turn for t. The caller holds mu.
func (q *turns) room(t *turn) bool {
	if t.ahead {
		return len(q.held) < (q.most+1)/2
	}
	return len(q.held) < q.most
}

// admit gives turns to those for whom there is room. The caller holds mu.
func (q *turns) admit() {
	if len(q.waiting) == 0 || len(q.held) >= q.most {
		return
	}
	type function struct {
		account lambda.AccountID
		name    string
	}
	accounts, functions := map[lambda.AccountID]int{}, map[function]int{}
	for _, t := range q.held {
		accounts[t.account]++
		functions[function{t.account, t.name}]++
	}
	for {
		var next *turn
		before := func(t, u *turn) bool { // t was here later
			switch {
			case t.ahead != u.ahead:
				return u.ahead
			case accounts[t.account] != accounts[u.account]:
				return accounts[t.account] < accounts[u.account]
			}
			return functions[function{t.account, t.name}] < functions[function{u.account, u.name}]
		}
		for _, t := range q.waiting {
			if q.room(t) && (next == nil || before(t, next)) {
				next = t
			}
		}
		if next == nil {
			return
		}
		accounts[next.account]++
		functions[function{next.account, next.name}]++
		q.give(next)
	}
}

// give ends t's waiting. The caller holds mu.
func (q *turns) give(t *turn) {
	i := slices.Index(q.waiting, t)
	q.waiting = slices.Delete(q.waiting, i, i+1)
	t.since = time.Now()
	q.held = append(q.held, t)
	close(t.came)
}

// watch looks while some wait.
func (q *turns) watch() {
	timer := time.NewTimer(turnLook)
	defer timer.Stop()
	for again := true; again; timer.Reset(turnLook) {
		<-timer.C
		again = q.look()
	}
}

// look ends turns that are not used or last too long, and waiting that does. It reports whether some still wait.
func (q *turns) look() (again bool) {
	q.mu.Lock()
	held := slices.Clone(q.held)
	boxes := make([]meter, len(held))
	for i, t := range held {
		boxes[i] = t.box
	}
	q.mu.Unlock()
	used := make([]int64, len(held))
	for i, box := range boxes {
		used[i] = usedBy(box) // reads files, as idle does
	}
	sure := 1
	if q.idle() < turnIdle {
		sure = turnSure
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	for i, t := range held {
		t.notice(used[i])
	}
	q.held = slices.DeleteFunc(q.held, func(t *turn) bool { return t.rested >= sure || now.Sub(t.since) >= q.limit })
	if len(q.waiting) > 0 && now.Sub(q.waiting[0].since) >= q.wait { // one at a look: they may all have come at once
		q.give(q.waiting[0])
	}
	q.admit()
	q.watching = len(q.waiting) > 0
	return q.watching
}

// notice counts looks that found a start using nothing since the one before. The caller holds of.mu.
func (t *turn) notice(used int64) {
	if t.looked && used-t.used < int64(turnUse) {
		t.rested++
	} else {
		t.rested = 0
	}
	t.looked, t.used = true, used
}

// usedBy is the processor time of a sandbox until now, in nanoseconds. 0 where it is not known: such a start seems to wait.
func usedBy(box meter) int64 {
	if box == nil {
		return 0
	}
	ctx, cancel := sandboxContext()
	defer cancel()
	usage, err := box.Usage(ctx)
	if err != nil {
		return 0 // it has ended
	}
	return usage.CPUNanoseconds
}
