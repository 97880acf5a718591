package cluster

import (
	"math/rand/v2"
	"time"
)

// faults is the script of what goes wrong in one run. Each seed draws which kinds there are and how many: a run without
// crashes holds the strict bounds, one with all of them the weakest.
type faults struct {
	c      *Cluster
	rng    *rand.Rand
	stop   chan struct{}
	healed chan struct{}
}

// mean times between two faults of a kind, and how long they last.
const (
	faultEvery = 6 * time.Second
	faultTime  = 8 * time.Second // at most
)

func (c *Cluster) newFaults() *faults {
	f := &faults{c: c, rng: rand.New(rand.NewPCG(c.o.Seed, 2)), stop: make(chan struct{}), healed: make(chan struct{})}
	c.net.change(func() {
		for _, chance := range []*float64{&c.net.chances.loss, &c.net.chances.double, &c.net.chances.late} {
			*chance = []float64{0, 0, 0.001, 0.01, 0.05}[f.rng.IntN(5)]
		}
		c.failures = []float64{0, 0, 0.02, 0.2}[f.rng.IntN(4)]
	})
	return f
}

// run makes faults until heal.
func (f *faults) run() {
	defer close(f.healed)
	kinds := f.kinds()
	for {
		f.c.net.sleep(time.Duration(f.rng.ExpFloat64() * float64(faultEvery)))
		select {
		case <-f.stop:
			return
		default:
		}
		if len(kinds) > 0 {
			undo := kinds[f.rng.IntN(len(kinds))]()
			f.c.net.sleep(time.Duration(f.rng.Int64N(int64(faultTime))))
			undo()
		}
	}
}

// kinds draws the kinds of faults of this run; each does one and returns how to undo it.
func (f *faults) kinds() []func() (undo func()) {
	all := []func() func(){f.crashManager, f.crashWorker, f.crashFrontend, f.crashCatalog, f.partition, f.slowWorker, f.changeRing}
	var kinds []func() func()
	for _, kind := range all {
		if f.rng.IntN(2) == 0 {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func (f *faults) crashManager() func() {
	id := f.c.names.managers[f.rng.IntN(len(f.c.names.managers))]
	if crashSite(f.c, f.c.managers[id]) {
		f.c.check.lost(id)
	}
	return func() { f.c.startManager(id) }
}

func (f *faults) crashWorker() func() {
	id := f.c.names.workers[f.rng.IntN(len(f.c.names.workers))]
	crashSite(f.c, f.c.workers[id])
	return func() { f.c.startWorker(id) }
}

func (f *faults) crashFrontend() func() {
	i := f.rng.IntN(len(f.c.frontends))
	crashSite(f.c, f.c.frontends[i])
	return func() { f.c.startFrontend(i) }
}

func (f *faults) crashCatalog() func() {
	i := f.rng.IntN(catalogSites)
	crashSite(f.c, f.c.ledger.catalogs[i])
	return func() { f.c.ledger.start(i) }
}

// partition cuts one site off from some of the others, both ways or one way only.
func (f *faults) partition() func() {
	var names []string
	for _, id := range f.c.names.managers {
		names = append(names, string(id))
	}
	for _, id := range f.c.names.workers {
		names = append(names, string(id))
	}
	for _, s := range f.c.frontends {
		names = append(names, s.name)
	}
	for _, s := range f.c.ledger.catalogs {
		names = append(names, s.name)
	}
	names = append(names, "client")
	one := names[f.rng.IntN(len(names))]
	var cut [][2]string
	ways := f.rng.IntN(3)
	for _, other := range names {
		if other == one || f.rng.IntN(3) == 0 {
			continue
		}
		if ways != 0 {
			cut = append(cut, [2]string{one, other})
		}
		if ways != 1 {
			cut = append(cut, [2]string{other, one})
		}
	}
	set := func(blocked bool) {
		f.c.net.change(func() {
			for _, pair := range cut {
				f.c.net.blocked[pair] = blocked
			}
		})
	}
	f.c.history.note("partition", one, "", uint64(len(cut)))
	set(true)
	return func() { set(false) }
}

// slowWorker makes everything on one worker take longer.
func (f *faults) slowWorker() func() {
	name := string(f.c.names.workers[f.rng.IntN(len(f.c.names.workers))])
	by := time.Duration(f.rng.Int64N(int64(4 * time.Second)))
	f.c.history.note("slow", name, "", uint64(by))
	f.c.net.change(func() { f.c.net.slow[name] = by })
	return func() { f.c.net.change(func() { delete(f.c.net.slow, name) }) }
}

// heal ends all faults and waits until everyone is up.
func (f *faults) heal() {
	close(f.stop)
	<-f.healed
	f.c.net.change(func() {
		f.c.net.chances = chances{}
		f.c.failures = 0
	})
	f.c.history.note("healed", "", "", 0)
}

func (c *Cluster) slowness(name string) time.Duration {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.net.slow[name]
}

func (c *Cluster) startFailure() float64 {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	return c.failures
}
