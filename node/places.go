package node

import (
	"context"
	"slices"
	"sync"

	"berth/lambda"
	"berth/manager"
)

// codePlaces remembers on which workers this process's manager has lately started environments with some code: it is in those
// workers' caches, most likely. A hint for placement; a wrong one costs one unpacking.
type codePlaces struct {
	mu     sync.Mutex
	places map[lambda.CodeDigest][]lambda.WorkerID // the latest last
	order  []lambda.CodeDigest                     // the longest known first
}

// Bounds of what is remembered: a few hundred bytes for each code.
const (
	maxCodes         = 4096
	maxPlacesPerCode = 8
)

func (p *codePlaces) add(code lambda.CodeDigest, id lambda.WorkerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.places == nil {
		p.places = map[lambda.CodeDigest][]lambda.WorkerID{}
	}
	list, known := p.places[code]
	if slices.Contains(list, id) {
		return
	}
	if !known {
		if len(p.order) >= maxCodes {
			delete(p.places, p.order[0])
			p.order = append(p.order[:0], p.order[1:]...)
		}
		p.order = append(p.order, code)
	}
	if len(list) >= maxPlacesPerCode {
		list = list[1:]
	}
	p.places[code] = append(slices.Clone(list), id) // readers have the old one
}

// of returns the workers that have the code. The list is not to be changed.
func (p *codePlaces) of(code lambda.CodeDigest) []lambda.WorkerID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.places[code]
}

// placedWorker notes what is started on a worker.
type placedWorker struct {
	manager.Worker
	id     lambda.WorkerID
	places *codePlaces
}

// Start implements manager.Worker.
func (w placedWorker) Start(ctx context.Context, req lambda.StartRequest) error {
	err := w.Worker.Start(ctx, req)
	if err == nil {
		w.places.add(req.Version.Code, w.id)
	}
	return err
}
