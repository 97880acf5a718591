// Package frontend carries one invocation from a Ref to its Outcome: resolve, reserve, run. It keeps no environment state.
package frontend

import (
	"context"
	"errors"
	"time"

	"berth/catalog"
	"berth/lambda"
)

// Catalog resolves what a caller wrote, without I/O.
type Catalog interface {
	Resolve(ref lambda.Ref) (catalog.Target, error)
}

// Manager hands out environments.
type Manager interface {
	Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Reservation, error)
}

// Worker runs invocations in environments.
type Worker interface {
	Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error)
}

// tries bounds how often one invocation asks for an environment, when the one it got had ended before the call reached it.
const tries = 3

// Config of a Frontend.
type Config struct {
	Catalog Catalog
	Manager Manager
	Worker  func(lambda.WorkerID) (Worker, bool)
	// RuntimeVersion says in which version of its runtime a function version runs now.
	RuntimeVersion func(*lambda.Version) (lambda.RuntimeVersionID, error)
}

// Frontend has no goroutines and nothing to stop.
type Frontend struct{ cfg Config }

// New makes a frontend.
func New(cfg Config) *Frontend { return &Frontend{cfg} }

// Check resolves a Ref as Invoke would and reports whether the version can be invoked: a dry run.
func (f *Frontend) Check(ref lambda.Ref) error {
	_, err := f.resolve(ref)
	return err
}

// Invoke runs one invocation. A function's own failure is an Outcome; an error means that no outcome exists:
// ResourceNotFound, ResourceConflict (not active), TooManyRequests, ServiceFailure.
func (f *Frontend) Invoke(ctx context.Context, ref lambda.Ref, inv *lambda.Invocation) (*lambda.Outcome, error) {
	target, err := f.resolve(ref)
	if err != nil {
		return nil, err
	}
	runtime, err := f.cfg.RuntimeVersion(target.Version)
	if err != nil {
		return nil, err
	}
	inv.InvokedARN = target.InvokedARN
	req := lambda.AcquireRequest{Pool: target.Pool, Key: keyOf(target.Version, runtime, inv.Tenant), Version: target.Version}
	for range tries {
		outcome, err := f.try(ctx, req, inv)
		if err == nil || !errors.Is(err, lambda.ErrUnknownEnvironment) {
			return outcome, err
		}
	}
	return nil, &lambda.Error{Code: lambda.TooManyRequests, Message: "Rate Exceeded.", Reason: lambda.ReasonConcurrency, RetryAfter: time.Second}
}

func (f *Frontend) try(ctx context.Context, req lambda.AcquireRequest, inv *lambda.Invocation) (*lambda.Outcome, error) {
	reservation, err := f.cfg.Manager.Acquire(ctx, req)
	if err != nil {
		return nil, err
	}
	worker, ok := f.cfg.Worker(reservation.Worker)
	if !ok {
		return nil, lambda.Errorf(lambda.ServiceFailure, "worker %s is not known here", reservation.Worker)
	}
	return worker.Invoke(ctx, reservation, inv)
}

func (f *Frontend) resolve(ref lambda.Ref) (catalog.Target, error) {
	target, err := f.cfg.Catalog.Resolve(ref)
	if err != nil {
		return catalog.Target{}, err
	}
	if target.Version.State != lambda.Active {
		return catalog.Target{}, notActive(target.Version)
	}
	return target, nil
}

// notActive words the refusal as Lambda does, and adds why a Failed version failed.
func notActive(v *lambda.Version) error {
	const text = "The operation cannot be performed at this time. The function is currently in the following state: "
	if v.State == lambda.Failed && v.StateReason != "" {
		return lambda.Errorf(lambda.ResourceConflict, text+"%s (%s)", v.State, v.StateReason)
	}
	return lambda.Errorf(lambda.ResourceConflict, text+"%s", v.State)
}

func keyOf(v *lambda.Version, runtime lambda.RuntimeVersionID, tenant string) lambda.EnvironmentKey {
	return lambda.EnvironmentKey{
		Account:  v.Account,
		Function: v.Function,
		Version:  v.Number,
		ConfigID: v.ConfigID,
		Runtime:  runtime,
		Tenant:   tenant,
	}
}
