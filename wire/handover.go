package wire

import (
	"context"
	"fmt"
	"slices"
	"time"

	"berth/lambda"
)

// handOverLimit bounds one call between managers, unless the caller has less time.
const handOverLimit = 5 * time.Second

// HandOver asks a manager for what it held of the caller's pools. Error: lambda.ErrUnreachable.
func (m *Manager) HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	out, _, err := call[lambda.HandOverAnswer](ctx, m.client, m.addr, "manager/hand-over", req, nil)
	if err == nil && len(out.Pools) != len(req.Pools) {
		err = fmt.Errorf("the manager answered for %d pools, not for the %d asked for: it speaks another version of the protocol", len(out.Pools), len(req.Pools))
	}
	return out, err
}

// Offer tells a manager which pools it should ask for, in several calls where they are many. Error: lambda.ErrUnreachable.
func (m *Manager) Offer(ctx context.Context, req lambda.OfferRequest) error {
	ctx, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	for part := range slices.Chunk(req.Pools, lambda.MaxHandedPools) {
		one := lambda.OfferRequest{Ring: req.Ring, Manager: req.Manager, Pools: part}
		if _, _, err := call[struct{}](ctx, m.client, m.addr, "manager/offer", one, nil); err != nil {
			return err
		}
	}
	return nil
}

// Adopt takes over environments of a lost owner. Error: lambda.ErrUnreachable.
func (w *Worker) Adopt(ctx context.Context, req lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	out, _, err := call[lambda.AdoptAnswer](ctx, w.client, w.addr, "worker/adopt", req, nil)
	return out, err
}

func serveHandOver(mux routes, m ManagerRole) {
	handle(mux, "manager/hand-over", func(ctx context.Context, in lambda.HandOverRequest, _ []byte) (lambda.HandOverAnswer, []byte, error) {
		if len(in.Pools) > lambda.MaxHandedPools {
			return lambda.HandOverAnswer{}, nil, fmt.Errorf("%d pools in one call, the limit is %d", len(in.Pools), lambda.MaxHandedPools)
		}
		out, err := m.HandOver(ctx, in)
		return out, nil, err
	})
	handle(mux, "manager/offer", func(ctx context.Context, in lambda.OfferRequest, _ []byte) (struct{}, []byte, error) {
		if len(in.Pools) > lambda.MaxHandedPools {
			return struct{}{}, nil, fmt.Errorf("%d pools in one call, the limit is %d", len(in.Pools), lambda.MaxHandedPools)
		}
		return struct{}{}, nil, m.Offer(ctx, in)
	})
}

func serveAdopt(mux routes, w WorkerRole) {
	handle(mux, "worker/adopt", func(ctx context.Context, in lambda.AdoptRequest, _ []byte) (lambda.AdoptAnswer, []byte, error) {
		out, err := w.Adopt(ctx, in)
		return out, nil, err
	})
}
