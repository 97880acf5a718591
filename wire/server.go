package wire

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"berth/lambda"
)

// ManagerRole is what a manager serves.
type ManagerRole interface {
	Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error)
	EnvironmentIdle(id lambda.EnvironmentID, reservation uint64)
	EnvironmentGone(id lambda.EnvironmentID)
	HandOver(ctx context.Context, req lambda.HandOverRequest) (lambda.HandOverAnswer, error)
	Offer(ctx context.Context, req lambda.OfferRequest) error
}

// WorkerRole is what a worker serves.
type WorkerRole interface {
	Start(ctx context.Context, req lambda.StartRequest) error
	Renew(ctx context.Context, req lambda.RenewRequest) (lambda.RenewAnswer, error)
	Adopt(ctx context.Context, req lambda.AdoptRequest) (lambda.AdoptAnswer, error)
	End(ctx context.Context, id lambda.EnvironmentID) error
	Prepare(ctx context.Context, v *lambda.Version) error
	Invoke(ctx context.Context, r lambda.Reservation, inv *lambda.Invocation) (*lambda.Outcome, error)
}

// NewHandler serves the roles of this process to the others; a role that it does not have is nil. Calls without the
// cluster's token are refused.
func NewHandler(token string, m ManagerRole, w WorkerRole) http.Handler {
	mux := http.NewServeMux()
	if m != nil {
		serveManager(mux, m)
		serveHandOver(mux, m)
	}
	if w != nil {
		serveWorker(mux, w)
		serveAdopt(mux, w)
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

var errNoVersion = errors.New("the request needs a version")

func serveManager(mux *http.ServeMux, m ManagerRole) {
	handle(mux, "manager/acquire", func(ctx context.Context, in lambda.AcquireRequest, _ []byte) (lambda.Answer, []byte, error) {
		if in.Version == nil {
			return lambda.Answer{}, nil, errNoVersion
		}
		out, err := m.Acquire(ctx, in)
		return out, nil, err
	})
	handle(mux, "manager/ping", func(context.Context, struct{}, []byte) (struct{}, []byte, error) {
		return struct{}{}, nil, nil
	})
	handle(mux, "manager/notify", func(_ context.Context, in []Notice, _ []byte) (struct{}, []byte, error) {
		if len(in) > maxNotices {
			return struct{}{}, nil, fmt.Errorf("%d notices in one call, the limit is %d", len(in), maxNotices)
		}
		for _, n := range in {
			if n.Gone {
				m.EnvironmentGone(n.Environment)
			} else {
				m.EnvironmentIdle(n.Environment, n.Reservation)
			}
		}
		return struct{}{}, nil, nil
	})
}

func serveWorker(mux *http.ServeMux, w WorkerRole) {
	handle(mux, "worker/start", func(ctx context.Context, in lambda.StartRequest, _ []byte) (struct{}, []byte, error) {
		if in.Version == nil {
			return struct{}{}, nil, errNoVersion
		}
		return struct{}{}, nil, w.Start(ctx, in)
	})
	handle(mux, "worker/prepare", func(ctx context.Context, in lambda.Version, _ []byte) (struct{}, []byte, error) {
		return struct{}{}, nil, w.Prepare(ctx, &in)
	})
	handle(mux, "worker/renew", func(ctx context.Context, in lambda.RenewRequest, _ []byte) (lambda.RenewAnswer, []byte, error) {
		if len(in.Holdings) > maxHoldings {
			return lambda.RenewAnswer{}, nil, fmt.Errorf("%d environments in one renewal, the limit is %d", len(in.Holdings), maxHoldings)
		}
		out, err := w.Renew(ctx, in)
		return out, nil, err
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

var contentType = []string{"application/octet-stream"}

// handle routes one operation to f.
func handle[In, Out any](mux *http.ServeMux, operation string, f func(context.Context, In, []byte) (Out, []byte, error)) {
	mux.HandleFunc("POST "+prefix+operation, func(rw http.ResponseWriter, r *http.Request) {
		var in In
		raw, err := readEnvelope(r.Body, r.ContentLength, &in)
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
		header := rw.Header()
		header["Content-Type"] = contentType
		header["Content-Length"] = []string{strconv.Itoa(len(head) + len(raw))}
		rw.Write(head) // an error means that the caller left
		if len(raw) > 0 {
			rw.Write(raw)
		}
	})
}
