package frontend_test

import (
	"context"
	"errors"
	"testing"

	"berth/catalog"
	"berth/frontend"
	"berth/lambda"
	"berth/ring"
)

// stage plays every neighbour of a frontend.
type stage struct {
	version  lambda.Version
	resolve  error
	acquired []lambda.AcquireRequest
	answers  []error // one per Invoke; nil is success
}

func (s *stage) Resolve(ref lambda.Ref) (catalog.Target, error) {
	return catalog.Target{Version: &s.version, Pool: lambda.PoolID{Account: ref.Account}, InvokedARN: ref.ARN()}, s.resolve
}

func (s *stage) Acquire(_ context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	s.acquired = append(s.acquired, req)
	return lambda.Answer{Verdict: lambda.Granted, Reservation: lambda.Reservation{Environment: "e", Worker: "w"}}, nil
}

func (s *stage) Invoke(_ context.Context, _ lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error) {
	err := s.answers[0]
	s.answers = s.answers[1:]
	if err != nil {
		return nil, err
	}
	return &lambda.Outcome{Payload: inv.Payload, Version: s.version.Number}, nil
}

func newFrontend(s *stage) *frontend.Frontend {
	r, err := ring.New(1, 10, []lambda.ManagerID{"m"})
	if err != nil {
		panic(err)
	}
	return frontend.New(frontend.Config{
		Catalog:        s,
		Manager:        func(id lambda.ManagerID) (frontend.Manager, bool) { return s, id == "m" },
		Rings:          ring.Fixed(r),
		Limit:          func(lambda.PoolID) int { return 10 },
		Worker:         func(id lambda.WorkerID) (frontend.Worker, bool) { return s, id == "w" },
		RuntimeVersion: func(*lambda.Version) (lambda.RuntimeVersionID, error) { return "r1", nil },
	})
}

var (
	ref    = lambda.Ref{Account: "000000000001", Region: "us-east-1", Function: "f", Qualifier: "live"}
	active = lambda.Version{Account: "000000000001", Function: "f", Number: "3", ConfigID: "c", State: lambda.Active}
)

func TestInvokeUsesTheFullEnvironmentKey(t *testing.T) {
	isolated := active
	isolated.PerTenant = true
	s := &stage{version: isolated, answers: []error{nil}}
	inv := &lambda.Invocation{Payload: []byte(`1`), Tenant: "blue"}
	out, err := newFrontend(s).Invoke(t.Context(), ref, inv)
	if err != nil || string(out.Payload) != "1" {
		t.Fatalf("Invoke = %v, %v", out, err)
	}
	want := lambda.EnvironmentKey{
		Account: "000000000001", Function: "f", Version: "3", ConfigID: "c", Runtime: "r1", Tenant: "blue",
	}
	if s.acquired[0].Key != want {
		t.Errorf("key = %+v, want %+v", s.acquired[0].Key, want)
	}
	if inv.InvokedARN != "arn:aws:lambda:us-east-1:000000000001:function:f:live" {
		t.Errorf("InvokedARN = %q", inv.InvokedARN)
	}
}

func unstarted(code lambda.Code) error {
	err := lambda.Errorf(code, "no environment")
	err.NotStarted = true
	return err
}

func TestInvokeTriesAnotherEnvironmentOnlyWhenNothingRan(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers []error
		tries   int
		code    lambda.Code
	}{
		{"the environment ended before the call", []error{lambda.ErrUnknownEnvironment, nil}, 2, ""},
		{"it ended every time", []error{lambda.ErrUnknownEnvironment, lambda.ErrUnknownEnvironment, lambda.ErrUnknownEnvironment}, 3, lambda.TooManyRequests},
		{"the worker failed during the call", []error{errors.New("lost")}, 1, lambda.ServiceFailure},
		{"the environment could not be started", []error{unstarted(lambda.ServiceFailure), nil}, 2, ""},
		{"nor could the next one", []error{unstarted(lambda.ServiceFailure), unstarted(lambda.ServiceFailure)}, 2, lambda.ServiceFailure},
		{"it cannot be started anywhere", []error{unstarted(lambda.InvalidParameterValue)}, 1, lambda.InvalidParameterValue},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &stage{version: active, answers: c.answers}
			_, err := newFrontend(s).Invoke(t.Context(), ref, &lambda.Invocation{})
			if len(s.acquired) != c.tries {
				t.Errorf("asked for %d environments, want %d", len(s.acquired), c.tries)
			}
			if (err == nil) != (c.code == "") || err != nil && lambda.CodeOf(err) != c.code {
				t.Errorf("error = %v, want code %q", err, c.code)
			}
		})
	}
}

func TestInvokeAsksForNothingWhenTheRefDoesNotResolve(t *testing.T) {
	s := &stage{version: active, resolve: lambda.Errorf(lambda.ResourceNotFound, "Function not found")}
	_, err := newFrontend(s).Invoke(t.Context(), ref, &lambda.Invocation{})
	if lambda.CodeOf(err) != lambda.ResourceNotFound || len(s.acquired) != 0 {
		t.Errorf("error = %v after %d requests, want ResourceNotFound after none", err, len(s.acquired))
	}
}

// onTrial puts every call into the group that it says, and remembers what was counted.
type onTrial struct {
	isNew     bool
	counted   []*lambda.Outcome
	unstarted int
}

func (o *onTrial) Draw(*lambda.Version, string) (lambda.RuntimeDraw, error) {
	d := lambda.RuntimeDraw{Version: "old", Old: "old", Trial: &lambda.RuntimeTrial{ID: "t"}, New: o.isNew}
	if o.isNew {
		d.Version = "new"
	}
	return d, nil
}

func (o *onTrial) Count(_ *lambda.Version, _ *lambda.RuntimeDraw, out *lambda.Outcome) {
	o.counted = append(o.counted, out)
}
func (o *onTrial) Unstarted(*lambda.Version, *lambda.RuntimeDraw) { o.unstarted++ }

// trialStage answers in the new version of the runtime as it is told.
type trialStage struct {
	stage
	refuse error // of Acquire
	fail   error // of Invoke
	answer lambda.Outcome
}

func (s *trialStage) Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error) {
	a, err := s.stage.Acquire(ctx, req)
	if req.Key.Runtime == "new" && s.refuse != nil {
		return lambda.Answer{}, s.refuse
	}
	return a, err
}

func (s *trialStage) Invoke(context.Context, lambda.Reservation, *lambda.Invocation) (*lambda.Outcome, error) {
	if s.acquired[len(s.acquired)-1].Key.Runtime == "new" {
		answer := s.answer
		return &answer, s.fail
	}
	return &lambda.Outcome{Payload: []byte("from the old version")}, nil
}

// TestG10_InitCrashIsRetriedOnTheOldVersion, and nothing else is.
func TestG10_InitCrashIsRetriedOnTheOldVersion(t *testing.T) {
	notStarted := lambda.Errorf(lambda.ServiceFailure, "no image")
	notStarted.NotStarted = true
	for name, c := range map[string]struct {
		stage              trialStage
		isOld              bool
		again              bool
		counted, unstarted int
	}{
		"works":                          {stage: trialStage{answer: lambda.Outcome{Class: lambda.OK}}, counted: 1},
		"crash at init":                  {stage: trialStage{answer: lambda.Outcome{Class: lambda.InitErr, Unseen: true}}, again: true, counted: 1},
		"exit before the event":          {stage: trialStage{answer: lambda.Outcome{Class: lambda.Exited, Unseen: true}}, again: true, counted: 1},
		"crash with the event":           {stage: trialStage{answer: lambda.Outcome{Class: lambda.Exited}}, counted: 1},
		"the handler's error":            {stage: trialStage{answer: lambda.Outcome{Class: lambda.HandlerErr}}, counted: 1},
		"cannot be started":              {stage: trialStage{fail: notStarted}, again: true, unstarted: 1},
		"broke with the event":           {stage: trialStage{fail: lambda.Errorf(lambda.ServiceFailure, "broke")}},
		"no answer":                      {stage: trialStage{fail: lambda.ErrUnreachable}},
		"no room":                        {stage: trialStage{refuse: lambda.Errorf(lambda.TooManyRequests, "full")}, again: true},
		"old group's crash is not tried": {stage: trialStage{}, isOld: true, counted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, trials := c.stage, &onTrial{isNew: !c.isOld}
			s.version = active
			r, err := ring.New(1, 10, []lambda.ManagerID{"m"})
			if err != nil {
				t.Fatal(err)
			}
			f := frontend.New(frontend.Config{
				Catalog: &s.stage, Manager: func(lambda.ManagerID) (frontend.Manager, bool) { return &s, true },
				Worker: func(lambda.WorkerID) (frontend.Worker, bool) { return &s, true },
				Rings:  ring.Fixed(r), Limit: func(lambda.PoolID) int { return 10 }, Trials: trials,
			})
			out, err := f.Invoke(t.Context(), ref, &lambda.Invocation{RequestID: "r"})
			if again := err == nil && string(out.Payload) == "from the old version" && !c.isOld; again != c.again {
				t.Errorf("ran again in the old version: %v, want %v (%v)", again, c.again, err)
			}
			if len(trials.counted) != c.counted || trials.unstarted != c.unstarted {
				t.Errorf("%d counted, %d unstarted; want %d, %d", len(trials.counted), trials.unstarted, c.counted, c.unstarted)
			}
		})
	}
}
