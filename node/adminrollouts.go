package node

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"berth/admin"
	"berth/catalog"
	"berth/lambda"
	"berth/rollout"
)

func isRollouts(path string) bool {
	return path == admin.RolloutsPath || strings.HasPrefix(path, admin.RolloutsPath+"/")
}

// rolloutActions are the operators' actions and the action that a key must be allowed.
var rolloutActions = map[string]string{
	admin.PauseRollout: "berth:PauseRollout", admin.ResumeRollout: "berth:ResumeRollout", admin.AbortRollout: "berth:AbortRollout",
}

// rolloutOperation finds what a request below admin.RolloutsPath asks for; nil when there is no such operation. Which action a POST
// is, is in its body.
func (o *operations) rolloutOperation(r *http.Request, body []byte) (act func(context.Context, []byte) (any, error), action string) {
	runtime := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, admin.RolloutsPath), "/")
	switch {
	case r.Method == http.MethodGet && runtime == "":
		return func(context.Context, []byte) (any, error) { return o.rollouts(), nil }, "berth:ListRollouts"
	case r.Method == http.MethodGet:
		return func(context.Context, []byte) (any, error) { return o.rollout(runtime, r.URL.Query().Get("limit")) }, "berth:GetRollout"
	case r.Method == http.MethodPost && runtime != "":
		var ask admin.RolloutAction
		err := read(body, &ask)
		action := cmp.Or(rolloutActions[ask.Action], "berth:PauseRollout")
		return func(ctx context.Context, _ []byte) (any, error) {
			if err != nil {
				return nil, err
			}
			return o.changeRollout(ctx, runtime, ask.Action)
		}, action
	}
	return nil, ""
}

func (o *operations) rollouts() admin.Rollouts {
	out := admin.Rollouts{Rollouts: []admin.Rollout{}}
	for _, r := range o.catalog.Rollouts() {
		out.Rollouts = append(out.Rollouts, o.describeRollout(r, o.trialsOf(r)))
	}
	return out
}

// functionTrial is one function's trial in a rollout.
type functionTrial struct {
	of    catalog.TrialOf
	trial *catalog.Trial
}

func (o *operations) trialsOf(r *catalog.Rollout) []functionTrial {
	var out []functionTrial
	for _, of := range o.catalog.Trials(r.Runtime) {
		if t, _, ok := o.catalog.Trial(of); ok && t.Rollout == r.ID {
			out = append(out, functionTrial{of, t})
		}
	}
	return out
}

func (o *operations) describeRollout(r *catalog.Rollout, functions []functionTrial) admin.Rollout {
	out := admin.Rollout{
		Runtime: r.Runtime, ID: r.ID, From: string(r.From), To: string(r.To), Phase: string(r.Phase), Began: r.Began, Changed: r.Changed,
		Reason: r.Reason, Functions: map[string]int{},
	}
	for _, f := range functions {
		name := string(f.trial.State.Verdict)
		if name == "" {
			name = fmt.Sprintf("%.0f %%", 100*rollout.Fractions[f.trial.State.Stage])
		}
		out.Functions[name]++
	}
	return out
}

func (o *operations) rollout(runtime, limit string) (any, error) {
	most := admin.RolloutFunctions
	if limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 0 || n > admin.MaxRolloutFunctions {
			return nil, lambda.Errorf(lambda.InvalidParameterValue, "limit is not a number from 0 to %d.", admin.MaxRolloutFunctions)
		}
		most = n
	}
	r, ok := o.catalog.Rollout(runtime)
	if !ok {
		return nil, lambda.Errorf(lambda.ResourceNotFound, "There was no rollout of %.100s yet. `berth runtime publish %[1]s` begins one.", runtime)
	}
	functions := o.trialsOf(r)
	out := admin.RolloutDetail{Rollout: o.describeRollout(r, functions), Evidence: []admin.RolloutFunction{}}
	for _, f := range functions {
		out.Evidence = append(out.Evidence, evidenceOf(f, r.Phase))
	}
	slices.SortStableFunc(out.Evidence, func(a, b admin.RolloutFunction) int {
		pinned := func(f admin.RolloutFunction) int {
			if f.Verdict == string(rollout.Incompatible) {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(pinned(a), pinned(b)), cmp.Compare(b.Factor, a.Factor), cmp.Compare(b.New.Calls, a.New.Calls))
	})
	if len(out.Evidence) > most {
		out.More = len(out.Evidence) - most
		out.Evidence = out.Evidence[:most]
	}
	return out, nil
}

func evidenceOf(f functionTrial, phase catalog.RolloutPhase) admin.RolloutFunction {
	t := f.trial
	tally := t.Tally()
	out := admin.RolloutFunction{
		Account: string(f.of.Account), Function: f.of.Name, Version: f.of.Number, Since: t.State.Since,
		Verdict: string(t.State.Verdict), Reason: t.State.Reason, Notice: string(t.Notice), Factor: rollout.Compare(&tally.Stages).Factor,
		Old: callsOf(tally.Stages.Sum(rollout.Old)), New: callsOf(tally.Stages.Sum(rollout.New)),
	}
	switch {
	case phase == catalog.RolloutRunning || phase == catalog.RolloutPaused:
		out.Fraction = t.Fraction
	case phase == catalog.RolloutDone && t.State.Verdict != rollout.Incompatible:
		out.Fraction = 1
	}
	return out
}

func callsOf(g rollout.Group) admin.RolloutCalls {
	out := admin.RolloutCalls{Calls: g.Calls, Unstarted: g.Unstarted, Slow: g.Slow, Timed: g.Marked, MeanMS: float64(g.Mean().Microseconds()) / 1000}
	for k, n := range g.Failed {
		if n > 0 {
			if out.Failed == nil {
				out.Failed = map[string]uint64{}
			}
			out.Failed[rollout.Kind(k).String()] = n
		}
	}
	return out
}

// changeRollout does what an operator wants. An abort is one write: from then on no call runs in the new version.
func (o *operations) changeRollout(ctx context.Context, runtime, action string) (any, error) {
	var r *catalog.Rollout
	var err error
	switch action {
	case admin.AbortRollout:
		r, err = o.catalog.EndRollout(ctx, runtime, "", catalog.RolloutAborted, "aborted by an operator")
	case admin.PauseRollout, admin.ResumeRollout:
		r, err = o.catalog.EditRollout(ctx, runtime, func(r *catalog.Rollout) error {
			if !r.Live() {
				return lambda.Errorf(lambda.ResourceConflict, "The rollout of %s has ended: it is %s.", runtime, r.Phase)
			}
			r.Phase = catalog.RolloutRunning
			if action == admin.PauseRollout {
				r.Phase = catalog.RolloutPaused
			}
			return nil
		})
	default:
		err = lambda.Errorf(lambda.InvalidParameterValue, `expected {"action":"pause"}, "resume" or "abort".`)
	}
	if err != nil {
		return nil, err
	}
	o.log.Info("an operator changed a rollout", "runtime", runtime, "action", action, "rollout", r.ID)
	return o.describeRollout(r, o.trialsOf(r)), nil
}
