package wire

import (
	"context"
	"sync"
	"time"

	"berth/lambda"
	"berth/sleep"
)

// Limits of a Notifier.
const (
	// sendGrace is how long a caller of EnvironmentIdle waits until the notice is on its way; a tenth of it nearly always
	// suffices. Answering an invocation before would let its caller's next one find the environment still busy. Waiting
	// for the acknowledgement would cost every call a round trip, and the way back to the caller takes longer than the notice.
	sendGrace = 2 * time.Millisecond
	// keptFor is how long notices wait for a manager that is not known (any more): it may be about to announce itself.
	keptFor    = 10 * time.Second
	firstPause = 10 * time.Millisecond // after a failed delivery; doubles
	lastPause  = 500 * time.Millisecond
	flushLimit = time.Second // for what is left when the worker stops
)

// Notifier delivers a worker's notices to managers in other processes: for each manager in order, one call at a time with
// everything that came meanwhile, again and again until it is heard or the manager is gone.
type Notifier struct {
	// Manager finds a living manager.
	manager func(lambda.ManagerID) (*Manager, bool)

	mu      sync.Mutex
	queues  map[lambda.ManagerID]*queue
	stopped bool
	sending sync.WaitGroup
	ctx     context.Context // ends when deliveries must
	cancel  context.CancelFunc
}

// NewNotifier makes a Notifier that finds living managers by the given function.
func NewNotifier(manager func(lambda.ManagerID) (*Manager, bool)) *Notifier {
	n := &Notifier{manager: manager, queues: map[lambda.ManagerID]*queue{}}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// Run delivers until ctx ends, and what is left then for a second at most.
func (n *Notifier) Run(ctx context.Context) error {
	<-ctx.Done()
	flush := time.AfterFunc(flushLimit, n.cancel)
	defer flush.Stop()
	n.mu.Lock()
	n.stopped = true
	n.mu.Unlock()
	n.sending.Wait()
	n.cancel()
	return nil
}

// Owner returns a manager as the worker's environments know it. It need not be known yet.
func (n *Notifier) Owner(id lambda.ManagerID) *Owner { return &Owner{n, id} }

// Owner is one manager in another process.
type Owner struct {
	notifier *Notifier
	id       lambda.ManagerID
}

// EnvironmentIdle queues the notice and waits until it is on its way, for at most 2 ms, and not at all while the manager
// does not answer.
func (o *Owner) EnvironmentIdle(id lambda.EnvironmentID, reservation uint64) {
	if sent := o.notifier.add(o.id, Notice{Environment: id, Reservation: reservation}); sent != nil {
		limit := time.NewTimer(sendGrace)
		defer limit.Stop()
		select {
		case <-sent:
		case <-limit.C:
		}
	}
}

// EnvironmentGone queues the notice.
func (o *Owner) EnvironmentGone(id lambda.EnvironmentID) {
	o.notifier.add(o.id, Notice{Environment: id, Gone: true})
}

// queue is what one manager has not heard yet. Its length is bounded by the worker's environments: an environment that its
// manager has not heard to be idle is not used again.
type queue struct {
	pending []Notice
	sent    chan struct{} // closed when what is pending now is on its way
	failing bool
}

// add queues a notice and starts its delivery. The channel is closed when it is on its way; nil when that may take long.
func (n *Notifier) add(id lambda.ManagerID, notice Notice) (sent <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	q := n.queues[id]
	if q == nil {
		if n.stopped {
			return nil
		}
		q = &queue{sent: make(chan struct{})}
		n.queues[id] = q
		n.sending.Go(func() { n.send(id, q) })
	}
	q.pending = append(q.pending, notice)
	if q.failing {
		return nil
	}
	return q.sent
}

// take returns the next batch; none when the queue is empty, which is dropped then.
func (n *Notifier) take(id lambda.ManagerID, q *queue) (batch []Notice, sent chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(q.pending) == 0 {
		delete(n.queues, id)
		return nil, nil
	}
	if len(q.pending) > maxNotices {
		batch, q.pending = q.pending[:maxNotices:maxNotices], q.pending[maxNotices:]
	} else {
		batch, q.pending = q.pending, nil
	}
	sent, q.sent = q.sent, make(chan struct{})
	return batch, sent
}

func (n *Notifier) send(id lambda.ManagerID, q *queue) {
	for {
		batch, sent := n.take(id, q)
		if batch == nil {
			return
		}
		if !n.deliver(id, q, batch, sync.OnceFunc(func() { close(sent) })) {
			n.drop(id)
			return
		}
	}
}

// deliver tries until the manager has heard; false when it is gone, or there is no more time.
func (n *Notifier) deliver(id lambda.ManagerID, q *queue, batch []Notice, sent func()) bool {
	var unknownSince time.Time
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		m, known := n.manager(id)
		if known {
			unknownSince = time.Time{}
			if err := m.notify(n.ctx, batch, sent); err == nil {
				n.setFailing(q, false)
				return true
			}
		} else if unknownSince.IsZero() {
			unknownSince = time.Now()
		} else if time.Since(unknownSince) > keptFor {
			return false
		}
		n.setFailing(q, true)
		if !sleep.For(n.ctx, pause) {
			return false
		}
	}
}

func (n *Notifier) setFailing(q *queue, failing bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	q.failing = failing
}

// drop forgets a manager and what it has not heard.
func (n *Notifier) drop(id lambda.ManagerID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.queues, id)
}
