package members

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// expire drops the members that have been silent while this process heard itself, and has a look at those that may be.
func (m *Members) expire(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	changed := false
	for key, e := range m.known {
		since := e.heard
		if m.regained.After(since) {
			since = m.regained
		}
		silent := m.ownHeard.Sub(since)
		if silent <= suspectAfter {
			e.refused = false
			continue
		}
		there := e.there.After(since)
		switch {
		case e.refused && e.Address != "":
			m.drop(key, "its process has ended")
			changed = true
		case silent > HangExpiry, silent > Expiry && !there:
			m.drop(key, "it is silent")
			changed = true
		case !e.probing && e.Address != "":
			e.probing = true
			m.probes.Go(func() { m.probe(ctx, e, e.Address) })
		}
	}
	if changed {
		m.publish()
	}
}

// probe looks whether a silent process is there: while it lives, its machine takes connections for it, however busy it is.
func (m *Members) probe(ctx context.Context, e *entry, address string) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	err := m.cfg.Dial(ctx, address)
	m.mu.Lock()
	defer m.mu.Unlock()
	e.probing = false
	e.refused = errors.Is(err, syscall.ECONNREFUSED)
	if err == nil {
		e.there = time.Now()
	}
}

func dial(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}
