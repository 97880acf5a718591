package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"berth/catalog"
	"berth/lambda"
	"berth/store/memory"
)

// ledger creates functions through catalogs of processes that crash, over one store that does not, and remembers which
// were acknowledged: I4.
type ledger struct {
	c        *Cluster
	store    *memory.Catalog
	catalogs []*site[*catalog.Catalog]

	mu           sync.Mutex
	acknowledged []catalog.ID
}

// catalogSites is how many processes have a catalog. One change takes at most createLimit, or its caller gives up.
const (
	catalogSites = 2
	createLimit  = 3 * time.Second
	createEvery  = 2 * time.Second // on average
)

func (c *Cluster) newLedger() *ledger {
	l := &ledger{c: c, store: memory.NewCatalog()}
	for i := range catalogSites {
		l.catalogs = append(l.catalogs, &site[*catalog.Catalog]{name: fmt.Sprintf("c%d", i)})
		l.start(i)
	}
	return l
}

func (l *ledger) start(i int) {
	newProcess(l.c, l.catalogs[i], func(*process) *catalog.Catalog { return catalog.New(l.store, "us-east-1") },
		func(k *catalog.Catalog, ctx context.Context) { k.Run(ctx) })
}

// load creates functions for the time of the load phase.
func (l *ledger) load() {
	client, stop := context.WithCancel(l.c.ctx)
	defer stop()
	from := &process{name: "client", ctx: client}
	rng := rand.New(rand.NewPCG(l.c.o.Seed, 3))
	end := time.Now().Add(loadTime)
	for n := 0; time.Now().Before(end); n++ {
		l.c.net.sleep(time.Duration(rng.ExpFloat64() * float64(createEvery)))
		v := catalog.Version{Version: lambda.Version{Account: account, Function: fmt.Sprintf("made%d", n), MemoryMB: 128}}
		_, err := call(client, l.c.net, from, l.catalogs[rng.IntN(catalogSites)], message{"create", v.Function}, createLimit,
			func(ctx context.Context, k *catalog.Catalog) (struct{}, error) {
				_, _, err := k.Create(ctx, v, nil, false)
				return struct{}{}, err
			})
		if err == nil {
			l.mu.Lock()
			l.acknowledged = append(l.acknowledged, catalog.ID{Account: account, Name: v.Function})
			l.mu.Unlock()
			l.c.history.note("acknowledged", from.name, v.Function, 0)
		}
	}
}

// check holds I4: every living catalog shows every acknowledged function.
func (l *ledger) check() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.catalogs {
		_, k := s.current()
		for _, id := range l.acknowledged {
			if _, ok := k.Function(id); !ok {
				l.c.history.violate("I4: function %s was acknowledged and %s does not know it", id.Name, s.name)
			}
		}
	}
}
