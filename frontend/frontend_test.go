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
