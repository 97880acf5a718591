package node

import (
	"berth/lambda"
	"berth/rollout"
)

// trials draws calls into the groups of their function's trial, and counts what they come to. It implements frontend.Trials.
type trials struct {
	versions versions
	recorder *rollout.Recorder
}

// Draw implements frontend.Trials.
func (t *trials) Draw(v *lambda.Version, requestID string) (lambda.RuntimeDraw, error) {
	choice := t.versions.catalog.RuntimeChoice(v)
	old, err := t.versions.named(v, choice.Version)
	if choice.Trial == nil || choice.Fraction <= 0 {
		return lambda.RuntimeDraw{Version: old}, err
	}
	d := lambda.RuntimeDraw{Version: old, Old: old, Trial: choice.Trial}
	if d.New = rollout.Draw(choice.Trial.ID, requestID, choice.Fraction); !d.New {
		return d, err
	}
	candidate, missing := t.versions.named(v, choice.Candidate)
	if missing != nil { // no worker has it any more
		return lambda.RuntimeDraw{Version: old}, err
	}
	d.Version = candidate
	return d, nil
}

func trialOf(v *lambda.Version, d *lambda.RuntimeDraw) rollout.Trial {
	return rollout.Trial{ID: d.Trial.ID, Account: v.Account, Function: v.Function, Number: v.Number}
}

func group(d *lambda.RuntimeDraw) int {
	if d.New {
		return rollout.New
	}
	return rollout.Old
}

// Count implements frontend.Trials.
func (t *trials) Count(v *lambda.Version, d *lambda.RuntimeDraw, o *lambda.Outcome) {
	of := trialOf(v, d)
	t.recorder.Count(&of, d.Trial.Stage, group(d), d.Trial.Mark, o)
}

// Unstarted implements frontend.Trials.
func (t *trials) Unstarted(v *lambda.Version, d *lambda.RuntimeDraw) {
	of := trialOf(v, d)
	t.recorder.Unstarted(&of, d.Trial.Stage, group(d))
}
