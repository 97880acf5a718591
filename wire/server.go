package wire

import (
	"context"
	"crypto/subtle"
	"net/http"

	"berth/lambda"
)

// ManagerRole is what a manager serves.
type ManagerRole interface {
	Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error)
	Load(ctx context.Context, pool lambda.PoolID) lambda.Load
	EnvironmentIdle(id lambda.EnvironmentID)
	EnvironmentGone(id lambda.EnvironmentID)
}

// WorkerRole is what a worker serves.
type WorkerRole interface {
	Start(ctx context.Context, req lambda.StartRequest) error
	Release(ctx context.Context, id lambda.EnvironmentID)
	End(ctx context.Context, id lambda.EnvironmentID) error
	Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error)
}

// NewHandler serves the roles of this process to the others; a role that it does not have is nil. Calls without the
// cluster's token are refused.
func NewHandler(token string, m ManagerRole, w WorkerRole) http.Handler {
	mux := http.NewServeMux()
	if m != nil {
		serveManager(mux, m)
	}
	if w != nil {
		serveWorker(mux, w)
	}
	want := []byte("Bearer " + token)
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if token == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			http.Error(rw, "the cluster token is missing or wrong", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(rw, r)
	})
}

func serveManager(mux *http.ServeMux, m ManagerRole) {
	handle(mux, "manager/acquire", func(ctx context.Context, in lambda.AcquireRequest, _ []byte) (lambda.Answer, []byte, error) {
		out, err := m.Acquire(ctx, in)
		return out, nil, err
	})
	handle(mux, "manager/load", func(ctx context.Context, in lambda.PoolID, _ []byte) (lambda.Load, []byte, error) {
		return m.Load(ctx, in), nil, nil
	})
	handle(mux, "manager/idle", func(_ context.Context, in lambda.EnvironmentID, _ []byte) (struct{}, []byte, error) {
		m.EnvironmentIdle(in)
		return struct{}{}, nil, nil
	})
	handle(mux, "manager/gone", func(_ context.Context, in lambda.EnvironmentID, _ []byte) (struct{}, []byte, error) {
		m.EnvironmentGone(in)
		return struct{}{}, nil, nil
	})
}

func serveWorker(mux *http.ServeMux, w WorkerRole) {
	handle(mux, "worker/start", func(ctx context.Context, in lambda.StartRequest, _ []byte) (struct{}, []byte, error) {
		return struct{}{}, nil, w.Start(ctx, in)
	})
	handle(mux, "worker/release", func(ctx context.Context, in lambda.EnvironmentID, _ []byte) (struct{}, []byte, error) {
		w.Release(ctx, in)
		return struct{}{}, nil, nil
	})
	handle(mux, "worker/end", func(ctx context.Context, in lambda.EnvironmentID, _ []byte) (struct{}, []byte, error) {
		return struct{}{}, nil, w.End(ctx, in)
	})
	handle(mux, "worker/invoke", func(ctx context.Context, in invokeMeta, payload []byte) (outcomeMeta, []byte, error) {
		in.Invocation.Payload = payload
		out, err := w.Invoke(ctx, in.Reservation, &in.Invocation)
		if err != nil {
			return outcomeMeta{}, nil, err
		}
		meta := outcomeMeta{Outcome: *out, PayloadLen: len(out.Payload)}
		meta.Outcome.Payload, meta.Outcome.Log = nil, nil
		raw := out.Payload
		if len(out.Log) > 0 {
			raw = append(raw[:len(raw):len(raw)], out.Log...)
		}
		return meta, raw, nil
	})
}

// handle routes one operation to f.
func handle[In, Out any](mux *http.ServeMux, operation string, f func(context.Context, In, []byte) (Out, []byte, error)) {
	mux.HandleFunc("POST "+prefix+operation, func(rw http.ResponseWriter, r *http.Request) {
		var in In
		raw, err := readEnvelope(http.MaxBytesReader(rw, r.Body, 4+maxMeta+maxRaw), &in)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		var a answer[Out]
		a.Result, raw, err = f(r.Context(), in, raw)
		if err != nil {
			a.Failure, raw = failureOf(err), nil
		}
		head, err := appendEnvelope(nil, a)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		rw.Header().Set("Content-Type", "application/octet-stream")
		rw.Write(head)
		rw.Write(raw)
	})
}
