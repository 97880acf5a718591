package frontend

import (
	"context"
	"errors"

	"berth/catalog"
	"berth/lambda"
)

// Trials splits the calls of functions whose next runtime version is on trial, and counts what they come to (design G). Its
// methods do no I/O.
type Trials interface {
	// Draw says in which version of its runtime one call runs. The same request is drawn alike.
	Draw(v *lambda.Version, requestID string) (lambda.RuntimeDraw, error)
	// Count takes the outcome of a call that was drawn into a trial.
	Count(v *lambda.Version, d *lambda.RuntimeDraw, o *lambda.Outcome)
	// Unstarted counts a call whose environment could not be started.
	Unstarted(v *lambda.Version, d *lambda.RuntimeDraw)
}

func (f *Frontend) drawRuntime(v *lambda.Version, requestID string) (lambda.RuntimeDraw, error) {
	if f.cfg.Trials != nil {
		return f.cfg.Trials.Draw(v, requestID)
	}
	id, err := f.cfg.RuntimeVersion(v)
	return lambda.RuntimeDraw{Version: id}, err
}

// runTrial runs a call of a function that is on trial. A call that the new version could not take before the function saw the
// event runs in the old one, and its caller sees nothing of it (G10): its initialisation failed, its environment could not be
// started, or there was no room for another environment. No other call runs twice.
func (f *Frontend) runTrial(ctx context.Context, p *poolView, d *lambda.RuntimeDraw, req lambda.AcquireRequest, inv *lambda.Invocation, target *catalog.Target) (*lambda.Outcome, error) {
	first := *target
	first.Provisioned = target.Provisioned && !d.New // what is provisioned is in the old version
	run := f.run
	if d.New {
		run = f.runOnce // the old version is what it is tried in again
	}
	outcome, err := run(ctx, p, req, inv, &first)
	if err == nil {
		f.cfg.Trials.Count(req.Version, d, outcome)
	}
	var unreserved *unreservedError
	unstarted := notStarted(err)
	if unstarted {
		f.cfg.Trials.Unstarted(req.Version, d)
	}
	again := unstarted || errors.As(err, &unreserved) || err == nil && outcome.Unseen
	if !d.New || !again || ctx.Err() != nil {
		return outcome, err
	}
	req.Key.Runtime = d.Old
	return f.run(ctx, p, req, inv, target)
}

// unreservedError is why no environment was found for a call: nothing has run.
type unreservedError struct{ error }

func (e *unreservedError) Unwrap() error { return e.error }

// notStarted reports whether a call's environment could not be started: nothing of the function has run.
func notStarted(err error) bool {
	var known *lambda.Error
	return errors.As(err, &known) && known.NotStarted
}
