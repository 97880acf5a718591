package manager

import (
	"context"

	"berth/lambda"
	"berth/ring"
)

func (m *Manager) ring() *ring.Ring {
	h, _ := m.cfg.Rings()
	return h.Current
}

// HandOver implements Peer.
func (m *Manager) HandOver(_ context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	return lambda.HandOverAnswer{Pools: make([]lambda.HandedPool, len(req.Pools))}, nil
}

// Offer implements Peer.
func (m *Manager) Offer(context.Context, lambda.OfferRequest) error { return nil }
