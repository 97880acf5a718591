package control

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"berth/catalog"
	"berth/lambda"
	"berth/rollout"
	"berth/sleep"
	"berth/store"
)

// Times and sizes of the rollout controller.
const (
	rolloutLook = time.Second
	// checkpointAge is how old counts may be in the record of a trial that stays where it is; the processes that count have
	// them all, so only those of a process that ends can be lost.
	checkpointAge = 30 * time.Second
	// checkpoints bounds how many such records one look writes; they are one batch.
	checkpoints = 64
	// rolloutWriters is how many records are written side by side: what waits at the same time shares a sync.
	rolloutWriters = 16
	// maxSources bounds the processes that one record tells apart; what the longest silent have counted is added up.
	maxSources = 64
)

// ErrNobodyToTell is what Notify returns for a function whose owner has not said where notices go.
var ErrNobodyToTell = errors.New("the function's owner has not said where notices go")

// Notice is what a function's owner is told of a verdict.
type Notice struct {
	ID       string // of this notice: telling twice is telling once
	Of       catalog.TrialOf
	Runtime  string
	From, To lambda.RuntimeVersionID
	Verdict  rollout.Verdict
	Reason   string
	At       time.Time
	Evidence rollout.Evidence
}

// RolloutConfig is what the rollout controller works with.
type RolloutConfig struct {
	Catalog *catalog.Catalog
	// Counts calls receive with every report of a process that counts, until stop. Reports may be lost, doubled or late.
	Counts func(receive func(source string, counted []rollout.Counted)) (stop func(), err error)
	// Notify takes a notice durably. Error: ErrNobodyToTell.
	Notify func(ctx context.Context, n *Notice) error
	Plan   rollout.Plan
	Log    *slog.Logger
}

// Rollouts is the task that brings Auto functions to their runtime's candidate by stages, as far as their own calls show no harm,
// and pins those that are worse in it (design G). All that it knows is in the catalog or comes again from the processes
// that count, so another process can go on at any time; two at once write the same records under compare-and-set.
func Rollouts(cfg RolloutConfig) Task {
	return Task{Name: "rollouts", Run: func(ctx context.Context) error {
		r := &rollouts{cfg: cfg, counts: newLedger()}
		stop, err := cfg.Counts(r.counts.add)
		if err != nil {
			return err
		}
		defer stop()
		return r.run(ctx)
	}}
}

type rollouts struct {
	cfg     RolloutConfig
	counts  *ledger
	written map[string]time.Time // trial → its last checkpoint by this process
}

func (r *rollouts) run(ctx context.Context) error {
	for ctx.Err() == nil {
		known := map[string]bool{}
		for _, state := range r.cfg.Catalog.RuntimeStates() {
			if err := r.step(ctx, state, known); err != nil && ctx.Err() == nil && !errors.Is(err, store.ErrConflict) {
				r.cfg.Log.Warn("a rollout could not go on, trying again", "runtime", state.Name, "err", err)
			}
		}
		r.counts.keep(known)
		sleep.For(ctx, rolloutLook)
	}
	return nil
}

// step does what is to be done for one runtime now. It adds the trials that still count to known.
func (r *rollouts) step(ctx context.Context, state *lambda.RuntimeState, known map[string]bool) error {
	ro, any := r.cfg.Catalog.Rollout(state.Name)
	switch {
	case any && ro.Live() && state.Candidate != ro.To:
		_, err := r.cfg.Catalog.EndRollout(ctx, state.Name, ro.ID, catalog.RolloutAborted, "the runtime was moved by hand")
		return err
	case any && ro.Live():
		return r.advance(ctx, state, ro, known)
	case any && !ro.Cleaned:
		return r.clean(ctx, ro)
	case state.Candidate != "" && state.Candidate != state.Current:
		return r.begin(ctx, state)
	}
	return nil
}

func (r *rollouts) begin(ctx context.Context, state *lambda.RuntimeState) error {
	now := time.Now().UTC()
	ro := &catalog.Rollout{
		ID: uuid.NewString(), Runtime: state.Name, From: state.Current, To: state.Candidate,
		Phase: catalog.RolloutRunning, Began: now, Changed: now,
	}
	if err := r.cfg.Catalog.BeginRollout(ctx, ro); err != nil {
		return err
	}
	r.cfg.Log.Info("a rollout begins", "runtime", ro.Runtime, "from", ro.From, "to", ro.To, "rollout", ro.ID)
	return nil
}

// candidate is a trial as it is looked at: its record, and what it is to be next.
type onTrial struct {
	of       catalog.TrialOf
	revision store.Revision
	now      *catalog.Trial
	next     *catalog.Trial // nil: as it is
	urgent   bool           // next says more than newer counts
}

// record is what the trial is to be.
func (t *onTrial) record() *catalog.Trial {
	if t.next != nil {
		return t.next
	}
	return t.now
}

// advance looks at every Auto function of the runtime.
func (r *rollouts) advance(ctx context.Context, state *lambda.RuntimeState, ro *catalog.Rollout, known map[string]bool) error {
	now := time.Now().UTC()
	var fresh []*lambda.Version
	var all []*onTrial
	for _, v := range r.cfg.Catalog.AutoVersions(state.Name) {
		of := catalog.TrialOf{ID: catalog.ID{Account: v.Account, Name: v.Function}, Number: v.Number}
		t, revision, ok := r.cfg.Catalog.Trial(of)
		if !ok || t.Rollout != ro.ID || t.Code != v.Code || t.Runtime != v.Runtime {
			fresh = append(fresh, v)
			continue
		}
		known[t.ID] = true
		one := &onTrial{of: of, revision: revision, now: t}
		r.judge(one, now, ro.Phase == catalog.RolloutPaused)
		all = append(all, one)
	}
	if ro.Phase == catalog.RolloutRunning {
		r.moveUndecided(all, len(fresh) > 0, ro, now)
	}
	if err := r.write(ctx, all, now); err != nil {
		return err
	}
	if ro.Phase != catalog.RolloutRunning {
		return nil
	}
	if len(fresh) > 0 {
		return r.beginTrials(ctx, state, ro, fresh)
	}
	for _, t := range all {
		if s := t.record().State; !s.Settled(&r.cfg.Plan, now) && !r.newcomer(t.now, ro) || t.record().Notice == catalog.NoticeDue {
			return nil
		}
	}
	_, err := r.cfg.Catalog.EndRollout(ctx, state.Name, ro.ID, catalog.RolloutDone, "every function has moved or is pinned")
	if err == nil {
		r.cfg.Log.Info("a rollout is done", "runtime", ro.Runtime, "to", ro.To, "functions", len(all), "rollout", ro.ID)
	}
	return err
}

// newcomer tells functions that were made or updated late in a rollout. It does not wait for them, or somebody who deploys
// every hour would hold it up for ever: at its end they move as everything that is deployed later does.
func (r *rollouts) newcomer(t *catalog.Trial, ro *catalog.Rollout) bool {
	return t.Began.Sub(ro.Began) > r.cfg.Plan.Patience
}

// beginTrials puts functions into the first stage.
func (r *rollouts) beginTrials(ctx context.Context, state *lambda.RuntimeState, ro *catalog.Rollout, fresh []*lambda.Version) error {
	var writing errgroup.Group
	writing.SetLimit(rolloutWriters)
	for _, v := range fresh {
		writing.Go(func() error {
			of := catalog.TrialOf{ID: catalog.ID{Account: v.Account, Name: v.Function}, Number: v.Number}
			now := time.Now().UTC()
			t := &catalog.Trial{
				RuntimeTrial: lambda.RuntimeTrial{
					ID: uuid.NewString(), Runtime: v.Runtime, Code: v.Code, Version: state.Current, Candidate: ro.To, Fraction: rollout.Fractions[0],
				},
				Rollout: ro.ID, State: rollout.State{Since: now}, Began: now,
			}
			if old, _, ok := r.cfg.Catalog.Trial(of); ok && old.Pinned && old.Code == v.Code && old.Runtime == v.Runtime {
				pin := old.RuntimeTrial
				t.Before, t.Version, t.Pinned, t.Reason = &pin, old.Version, true, old.Reason
			}
			err := r.cfg.Catalog.BeginTrial(ctx, of, t)
			if lambda.CodeOf(err) == lambda.ResourceNotFound {
				return nil // deleted meanwhile
			}
			return err
		})
	}
	return writing.Wait()
}

// judge brings what was counted to a trial's record, and says where it goes by it.
func (r *rollouts) judge(t *onTrial, now time.Time, paused bool) {
	if !r.counts.fresh(t.now.ID) && now.Sub(t.now.State.Since) < r.cfg.Plan.Pace {
		return
	}
	next := t.now.Clone()
	counted := r.counts.into(t.now.ID, next)
	tally := next.Tally()
	if next.Mark == 0 {
		if next.Mark, t.urgent = rollout.Mark(&tally.Times); t.urgent {
			counted = true
		}
	}
	state := r.cfg.Plan.Next(next.State, &tally.Stages, now, paused)
	if state != next.State {
		r.enter(t, next, state)
		return
	}
	if counted {
		t.next = next
	}
}

// enter brings a trial into another state.
func (r *rollouts) enter(t *onTrial, next *catalog.Trial, state rollout.State) {
	if verdict := state.Verdict; verdict != "" && (verdict != next.State.Verdict && !state.Waits() || verdict == rollout.Undecided && state.Moving && !next.State.Moving) {
		next.Notice = catalog.NoticeDue
	}
	next.State, next.Stage, next.Fraction, next.Changed = state, state.Stage, state.Fraction(), time.Now().UTC()
	if state.Verdict == rollout.Incompatible {
		next.Candidate, next.Fraction, next.Pinned, next.Reason = "", 0, true, state.Reason
	}
	t.next, t.urgent = next, true
	r.cfg.Log.Info("a function's trial of a runtime version goes on", "account", t.of.Account, "function", t.of.Name, "version", t.of.Number,
		"runtime", next.Runtime, "stage", rollout.Fractions[state.Stage], "verdict", state.Verdict, "reason", state.Reason)
}

// moveUndecided moves the next functions with too few calls, when all others are settled and those moved before have been
// watched.
func (r *rollouts) moveUndecided(all []*onTrial, more bool, ro *catalog.Rollout, now time.Time) {
	var waiting []*onTrial
	undecided := 0
	for _, t := range all {
		s := t.record().State
		if s.Verdict == rollout.Undecided {
			undecided++
		}
		switch {
		case s.Waits():
			waiting = append(waiting, t)
		case !s.Settled(&r.cfg.Plan, now) && !r.newcomer(t.now, ro):
			return
		}
	}
	if more || len(waiting) == 0 {
		return
	}
	slices.SortFunc(waiting, func(a, b *onTrial) int {
		return strings.Compare(string(a.of.Account)+"/"+a.of.Name+"/"+a.of.Number, string(b.of.Account)+"/"+b.of.Name+"/"+b.of.Number)
	})
	n := max(1, int(math.Ceil(r.cfg.Plan.Batch*float64(undecided))))
	for _, t := range waiting[:min(n, len(waiting))] {
		next := t.record().Clone()
		r.enter(t, next, rollout.Move(next.State, now))
	}
}

// write stores what has changed: news at once, newer counts from time to time. Then owners are told.
func (r *rollouts) write(ctx context.Context, all []*onTrial, now time.Time) error {
	if r.written == nil {
		r.written = map[string]time.Time{}
	}
	var batch []catalog.TrialChange
	var writing errgroup.Group
	writing.SetLimit(rolloutWriters)
	for _, t := range all {
		switch {
		case t.urgent:
			r.written[t.now.ID] = now
			writing.Go(func() error { return r.change(ctx, t) })
		case t.next != nil && len(batch) < checkpoints && now.Sub(r.written[t.now.ID]) >= checkpointAge:
			r.written[t.now.ID] = now
			fold(t.next)
			batch = append(batch, catalog.TrialChange{Of: t.of, Revision: t.revision, Next: t.next})
		}
		if !t.urgent && t.now.Notice == catalog.NoticeDue {
			writing.Go(func() error { return r.tell(ctx, t) })
		}
	}
	if len(batch) > 0 {
		writing.Go(func() error { return ignoreConflict(r.cfg.Catalog.ChangeTrials(ctx, batch)) })
	}
	return writing.Wait()
}

func (r *rollouts) change(ctx context.Context, t *onTrial) error {
	fold(t.next)
	return ignoreConflict(r.cfg.Catalog.ChangeTrials(ctx, []catalog.TrialChange{{Of: t.of, Revision: t.revision, Next: t.next}}))
}

// ignoreConflict: somebody was faster, another control process or the function's deletion; the next look shows what is left
// to do.
func ignoreConflict(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// tell tells the owner, and notes that in the record. A process that is killed in between tells again, with the same id.
func (r *rollouts) tell(ctx context.Context, t *onTrial) error {
	next := t.now.Clone()
	tally := next.Tally()
	n := &Notice{
		ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(next.ID+" "+string(next.State.Verdict))).String(),
		Of: t.of, Runtime: next.Runtime, From: next.Version, Verdict: next.State.Verdict, Reason: next.State.Reason, At: next.Changed, Evidence: tally.Stages,
	}
	if ro, ok := r.cfg.Catalog.Rollout(next.Runtime); ok {
		n.To = ro.To
	}
	next.Notice = catalog.NoticeSent
	switch err := r.cfg.Notify(ctx, n); {
	case errors.Is(err, ErrNobodyToTell):
		next.Notice = catalog.NoticeNone
	case err != nil:
		return err
	}
	return ignoreConflict(r.cfg.Catalog.ChangeTrials(ctx, []catalog.TrialChange{{Of: t.of, Revision: t.revision, Next: next}}))
}

// clean makes the trials of a rollout that has ended say no more than the runtime's state: pins stay after one that is done, and
// an abort brings back what was before. What was found out is kept to be shown.
func (r *rollouts) clean(ctx context.Context, ro *catalog.Rollout) error {
	var batch []catalog.TrialChange
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := r.cfg.Catalog.ChangeTrials(ctx, batch)
		batch = nil
		return err
	}
	for _, of := range r.cfg.Catalog.Trials(ro.Runtime) {
		t, revision, ok := r.cfg.Catalog.Trial(of)
		if !ok || t.Rollout != ro.ID || t.Candidate == "" && (ro.Phase == catalog.RolloutDone || t.Before == nil && !t.Pinned) {
			continue
		}
		next := t.Clone()
		next.Candidate, next.Fraction = "", 0
		if pinned := ro.Phase == catalog.RolloutDone && next.State.Verdict == rollout.Incompatible; !pinned {
			next.Pinned, next.Reason = false, ""
		}
		if ro.Phase == catalog.RolloutAborted && next.Before != nil {
			next.Pinned, next.Version, next.Reason, next.Before = true, next.Before.Version, next.Before.Reason, nil
		}
		batch = append(batch, catalog.TrialChange{Of: of, Revision: revision, Next: next})
		if len(batch) == checkpoints {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	_, err := r.cfg.Catalog.EditRollout(ctx, ro.Runtime, func(now *catalog.Rollout) error {
		if now.ID == ro.ID && !now.Live() {
			now.Cleaned = true
		}
		return nil
	})
	return err
}

// fold adds up the oldest sources when there are too many: the names of sources begin with the time of their start.
func fold(t *catalog.Trial) {
	for len(t.Sources) > maxSources {
		oldest := slices.Min(slices.Collect(maps.Keys(t.Sources)))
		sum := rollout.Tally{}
		if t.Folded != nil {
			sum = *t.Folded
		}
		one := t.Sources[oldest]
		sum.Add(&one)
		t.Folded, t.FoldedTo = &sum, oldest
		delete(t.Sources, oldest)
	}
}
