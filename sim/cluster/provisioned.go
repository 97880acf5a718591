package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"berth/lambda"
	"berth/manager"
	"berth/ring"
)

// wishes are what is provisioned of one function in a run: how many environments, of which configuration. All processes hear
// of a change at once: what they do when they do not is catalog's to test.
type wishes struct {
	function string // "" when nothing ever is

	mu      sync.Mutex
	count   int
	version *lambda.Version
	past    []wish // the last one is in force
}

type wish struct {
	at    time.Time
	count int
}

// Changes of what is provisioned.
const (
	wishEvery = 8 * time.Second // on average
	mostWish  = 3               // environments
)

func newWishes(rng *rand.Rand, functions []function) *wishes {
	w := &wishes{version: functions[0].version}
	if rng.IntN(2) == 0 {
		w.function = functions[0].name
		w.set(rng.IntN(mostWish + 1))
	}
	return w
}

func (w *wishes) set(count int) {
	w.count = count
	w.past = append(w.past, wish{time.Now(), count})
}

// change makes another number of environments, or a new configuration as when an alias moves.
func (w *wishes) change(rng *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rng.IntN(2) == 0 {
		w.set(rng.IntN(mostWish + 1))
		return
	}
	next := *w.version
	next.ConfigID = fmt.Sprintf("c%d", 1+len(w.past))
	w.version = &next
	w.set(w.count)
}

// of returns a function as it is now, and whether environments of it are provisioned.
func (w *wishes) of(f function) (function, bool) {
	if f.name != w.function {
		return f, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.version = w.version
	return f, w.count > 0
}

// list is manager.Config.Provisions.
func (c *Cluster) provisions() []manager.Provision {
	w := c.wishes
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.function == "" || w.count == 0 {
		return nil
	}
	key := lambda.EnvironmentKey{Account: account, Function: w.function, Version: w.version.Number, ConfigID: w.version.ConfigID, Runtime: runtimeVersion}
	return []manager.Provision{{
		ID: manager.ProvisionID{Account: account, Function: w.function, Qualifier: "live"}, Pool: lambda.PoolID{Account: account},
		Changed: w.past[len(w.past)-1].at, Targets: []manager.ProvisionTarget{{Key: key, Version: w.version, Count: w.count}},
	}}
}

// current is manager.Config.Current.
func (c *Cluster) current(key lambda.EnvironmentKey) bool {
	w := c.wishes
	w.mu.Lock()
	defer w.mu.Unlock()
	return key.Function != w.function || key.ConfigID == w.version.ConfigID
}

// changeWishes changes what is provisioned for the time of the load phase.
func (c *Cluster) changeWishes() {
	rng := rand.New(rand.NewPCG(c.o.Seed, 4))
	for end := time.Now().Add(loadTime); c.wishes.function != ""; {
		c.net.sleep(time.Duration(rng.ExpFloat64() * float64(wishEvery)))
		if time.Now().After(end) {
			return
		}
		c.wishes.change(rng)
		c.history.note("provision", "", c.wishes.function, uint64(c.wishes.count))
	}
}

// most is how many calls may run in environments that were made ahead, with lost as the number of times that their manager
// was lost lately: what was wanted before goes on until its calls are over.
func (w *wishes) most(lost int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := 0
	for i, p := range w.past {
		if i == len(w.past)-1 || time.Since(w.past[i+1].at) < replacement {
			sum += p.count
		}
	}
	return sum * (1 + lost)
}

// settled reports whether nothing has changed for so long that nothing is to be ended for it.
func (w *wishes) settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.past) > 0 && time.Since(w.past[len(w.past)-1].at) > replacement
}

// firsts are the managers that have what is provisioned: the one of the newest ring, and then those of earlier rings that
// count, for some sites have not heard of the newest.
func (k *checker) firsts() []lambda.ManagerID {
	h := k.c.rings.history()
	firsts := []lambda.ManagerID{}
	for _, r := range append([]*ring.Ring{h.Current}, h.Earlier...) {
		if id := r.Manager(lambda.PoolID{Account: account}); !slices.Contains(firsts, id) {
			firsts = append(firsts, id)
		}
	}
	return firsts
}

// beganAhead checks a call in an environment that was made ahead. k.mu is held.
func (k *checker) beganAhead(e *environment) {
	k.ahead++
	firsts := k.firsts()
	lost := len(firsts) - 1
	for _, id := range firsts {
		lost += k.lostLately(id)
	}
	if bound := k.c.wishes.most(lost); k.ahead > bound {
		k.c.history.violate("I3: %d calls run in provisioned environments, at most %d are wanted", k.ahead, bound)
	}
	if !slices.Contains(firsts, e.owner) {
		k.c.history.violate("I3: manager %s has provisioned environment %s, one of %v is to have them", e.owner, e.id, firsts)
	}
}

// endAsked checks that a manager ends no environment that is provisioned: neither for age nor for room.
func (k *checker) endAsked(e *environment) {
	if e.ahead && k.c.wishes.settled() && k.c.current(e.key) && !e.maker.dead() {
		k.c.history.violate("environment %s is provisioned, and was ended", e.id)
	}
}

// endAhead checks, when all is over, that there is what is wanted and no more.
func (k *checker) endAhead() {
	if k.c.wishes.function == "" {
		return
	}
	have, first := 0, k.firsts()[0]
	for _, id := range k.c.names.workers {
		_, w := k.c.workers[id].current()
		w.mu.Lock()
		for _, e := range w.sorted() {
			if e.ahead && e.owner != first {
				k.c.history.violate("provisioned environment %s is left with %s", e.id, e.owner)
			} else if e.ahead && !k.c.current(e.key) {
				k.c.history.violate("environment %s of an old configuration is still provisioned", e.id)
			} else if e.ahead {
				have++
			}
		}
		w.mu.Unlock()
	}
	if want := k.c.wishes.count; have > want || have < want && k.c.roomLeft() {
		k.c.history.violate("%d environments are provisioned, %d are wanted", have, want)
	} else if have > 0 {
		k.probeAhead()
	}
}

// probeAhead makes one call in a provisioned environment, and looks whether the pool's quota pays for it.
func (k *checker) probeAhead() {
	const took = 2 * time.Second
	ended := make(chan string, 1)
	k.c.wg.Go(func() { ended <- k.c.invoke("probe-ahead", "", k.c.shape.functions[0], took, 0) })
	k.c.net.sleep(took / 2)
	_, m := k.c.managers[k.firsts()[0]].current()
	if load := m.Load(k.c.ctx, lambda.PoolID{Account: account}); load.Running != 0 {
		k.c.history.violate("I3: a call in a provisioned environment is counted %d times in its pool", load.Running)
	}
	k.mu.Lock()
	if k.ahead != 1 {
		k.c.history.violate("a call of a provisioned function ran elsewhere")
	}
	k.mu.Unlock()
	if ending := <-ended; ending != "ok" {
		k.c.history.violate("a call of a provisioned function ended with %s", ending)
	}
	k.c.net.sleep(latest / 100) // the word that it is over
}
