package extensions

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"berth/sleep"
)

const (
	// sendLimit bounds one attempt to deliver a batch; a receiver that takes longer is slow.
	sendLimit = 5 * time.Second
	// sendAttempts is how often a batch is tried before it is dropped.
	sendAttempts = 3
	sendPause    = 100 * time.Millisecond
	// room is how many full batches wait at most for a receiver that does not keep up; what comes then is dropped.
	room = 2

	maxAnswer = 64 << 10 // bytes of a receiver's answer that are read
)

const (
	slowReceiver = "Some logs were dropped because the downstream consumer is slower than the logs production rate"
	noReceiver   = "Some logs were dropped because they could not be delivered"
)

// subscription buffers one extension's telemetry and sends it, in batches. Adding never blocks.
type subscription struct {
	h      *Host
	owner  *Extension
	plan   *plan
	cancel context.CancelFunc
	wake   chan struct{}

	mu      sync.Mutex
	queue   [][]byte  // rendered events
	bytes   int       // of them
	first   time.Time // when the oldest came
	now     bool      // nothing is to wait for its time any more
	busy    bool      // a batch is under way
	dropped struct {
		records, bytes int
		reason         string
	}

	client *http.Client // of HTTP
	conn   net.Conn     // of TCP, once connected; run's
}

func newSubscription(h *Host, owner *Extension, p *plan) *subscription {
	s := &subscription{h: h, owner: owner, plan: p, wake: make(chan struct{}, 1)}
	if p.method != "" {
		s.client = &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return h.cfg.Dial(ctx, p.port) },
				MaxConnsPerHost:        1,
				MaxResponseHeaderBytes: maxAnswer,
				DisableCompression:     true,
			},
		}
	}
	return s
}

func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// hurry sends all that waits, and all that comes, at once.
func (s *subscription) hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = true
	s.signal()
}

func (s *subscription) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.busy && len(s.queue) == 0
}

// add queues an event, if the subscription is for its kind.
func (s *subscription) add(ev *event) {
	b := ev.render(s.plan)
	if b == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= room*s.plan.maxItems || s.bytes+len(b) > room*s.plan.maxBytes {
		s.drop(1, len(b), slowReceiver)
		return
	}
	if len(s.queue) == 0 {
		s.first = time.Now()
	}
	s.queue = append(s.queue, b)
	s.bytes += len(b)
	if len(s.queue) == 1 || s.now || s.full() {
		s.signal()
	}
}

// drop counts what is lost; s.mu is held.
func (s *subscription) drop(records, size int, reason string) {
	s.dropped.records += records
	s.dropped.bytes += size
	s.dropped.reason = reason
}

// full reports whether a batch is; s.mu is held.
func (s *subscription) full() bool {
	return len(s.queue) >= s.plan.maxItems || s.bytes >= s.plan.maxBytes
}

// run sends until ctx ends.
func (s *subscription) run(ctx context.Context) {
	defer s.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		batch, wait := s.take(time.Now())
		if batch != nil {
			s.send(ctx, batch)
			continue
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

func (s *subscription) close() {
	if s.client != nil {
		s.client.CloseIdleConnections()
	}
	if s.conn != nil {
		s.conn.Close()
	}
}

// take returns a batch that is due, or how long to wait for one.
func (s *subscription) take(now time.Time) (batch [][]byte, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if len(s.queue) == 0 || s.h.paused.Load() {
		return nil, time.Hour
	}
	if left := s.first.Add(s.plan.timeout).Sub(now); left > 0 && !s.now && !s.full() {
		return nil, left
	}
	if s.dropped.records > 0 {
		ev := droppedEvent(now, s.dropped.records, s.dropped.bytes, s.dropped.reason)
		if b := ev.render(s.plan); b != nil {
			batch = append(batch, b)
		}
		s.dropped.records, s.dropped.bytes = 0, 0
	}
	size, n := 0, 0
	for n < len(s.queue) && n < s.plan.maxItems && (n == 0 || size+len(s.queue[n]) <= s.plan.maxBytes) {
		size += len(s.queue[n])
		n++
	}
	batch = append(batch, s.queue[:n]...)
	s.queue = append([][]byte(nil), s.queue[n:]...)
	s.bytes -= size
	s.first, s.busy = now, true
	return batch, 0
}

// send delivers a batch, or drops it after some attempts. A sandbox that was frozen meanwhile is no reason to.
func (s *subscription) send(ctx context.Context, batch [][]byte) {
	var err error
	for attempt := 0; attempt < sendAttempts; attempt++ {
		if err = s.attempt(ctx, batch); err == nil || ctx.Err() != nil {
			return
		}
		for s.h.paused.Load() && ctx.Err() == nil {
			attempt = -1
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
		}
		sleep.For(ctx, sendPause)
	}
	size := 0
	for _, b := range batch {
		size += len(b)
	}
	s.h.log.Debug("telemetry was not delivered", "extension", s.owner.Name, "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(len(batch), size, noReceiver)
}

func (s *subscription) attempt(ctx context.Context, batch [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	if s.client == nil {
		return s.attemptTCP(ctx, batch)
	}
	body := append(append([]byte{'['}, bytes.Join(batch, []byte{','})...), ']')
	url := "http://sandbox.localdomain:" + strconv.Itoa(int(s.plan.port)) + s.plan.path
	req, err := http.NewRequestWithContext(ctx, s.plan.method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, maxAnswer); err != nil && err != io.EOF {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the extension answered with status %d", resp.StatusCode)
	}
	return nil
}

// attemptTCP sends events as lines. What of a batch had been sent when the connection broke is sent again.
func (s *subscription) attemptTCP(ctx context.Context, batch [][]byte) (err error) {
	if s.conn == nil {
		if s.conn, err = s.h.cfg.Dial(ctx, s.plan.port); err != nil {
			s.conn = nil
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { s.conn.SetWriteDeadline(time.Unix(1, 0)) })
	_, err = s.conn.Write(append(bytes.Join(batch, []byte{'\n'}), '\n'))
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.conn.Close()
		s.conn = nil
	}
	return err
}
