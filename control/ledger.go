package control

import (
	"maps"
	"sync"

	"berth/catalog"
	"berth/rollout"
)

// ledger is what processes have reported since this one listens.
type ledger struct {
	mu     sync.Mutex
	trials map[string]*reported
}

type reported struct {
	sources map[string]*rollout.Tally
	fresh   bool // something came since the last look
}

func newLedger() *ledger { return &ledger{trials: map[string]*reported{}} }

func (l *ledger) add(source string, counted []rollout.Counted) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range counted {
		id := counted[i].Trial.ID
		of := l.trials[id]
		if of == nil {
			of = &reported{sources: map[string]*rollout.Tally{}}
			l.trials[id] = of
		}
		if of.sources[source] == nil {
			of.sources[source] = new(rollout.Tally)
		}
		if of.sources[source].Merge(&counted[i].Tally) {
			of.fresh = true
		}
	}
}

func (l *ledger) fresh(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.trials[id]
	return of != nil && of.fresh
}

// into merges what is known of a trial into its record, and reports whether anything is new there.
func (l *ledger) into(id string, t *catalog.Trial) (news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.trials[id]
	if of == nil {
		return false
	}
	of.fresh = false
	for source, tally := range of.sources {
		one := t.Sources[source]
		if source > t.FoldedTo && one.Merge(tally) {
			t.Sources[source], news = one, true
		}
	}
	return news
}

// keep forgets all trials but these. One that was begun since the look comes again with its next report.
func (l *ledger) keep(known map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.trials, func(id string, _ *reported) bool { return !known[id] })
}
