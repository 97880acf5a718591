package wire

import (
	"context"
	"errors"
	"fmt"

	"berth/lambda"
)

// ManagerRole is what a manager serves.
type ManagerRole interface {
	Acquire(ctx context.Context, req lambda.AcquireRequest) (lambda.Answer, error)
	EnvironmentIdle(id lambda.EnvironmentID, reservation uint64)
	EnvironmentGone(id lambda.EnvironmentID)
	Provisioned(ctx context.Context, req lambda.ProvisionedRequest) (lambda.ProvisionedAnswer, error)
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
// cluster's token are refused. The server's Run must be running for as long as it is used.
func NewHandler(token string, m ManagerRole, w WorkerRole) *Server {
	codec, err := newCodec()
	if err != nil {
		panic(err) // a type that cannot travel: every test of this package finds it
	}
	mux := routes{}
	if m != nil {
		serveManager(mux, m)
		serveHandOver(mux, m)
	}
	if w != nil {
		serveWorker(mux, w)
		serveAdopt(mux, w)
	}
	s := &Server{want: []byte("Bearer " + token), open: token != "", ops: mux, codec: codec, conns: map[*serverConn]struct{}{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

var errNoVersion = errors.New("the request needs a version")

func serveManager(mux routes, m ManagerRole) {
	serveProvisioned(mux, m)
	handle(mux, "manager/acquire", func(ctx context.Context, in lambda.AcquireRequest, _ []byte) (lambda.Answer, []byte, error) {
		if in.Version == nil {
			return lambda.Answer{}, nil, errNoVersion
		}
		out, err := m.Acquire(ctx, in)
		return out, nil, err
	})
	handle(mux, "manager/ping", func(context.Context, nothing, []byte) (nothing, []byte, error) {
		return nothing{}, nil, nil
	})
	handle(mux, "manager/notify", func(_ context.Context, in []Notice, _ []byte) (nothing, []byte, error) {
		if len(in) > maxNotices {
			return nothing{}, nil, fmt.Errorf("%d notices in one call, the limit is %d", len(in), maxNotices)
		}
		for _, n := range in {
			if n.Gone {
				m.EnvironmentGone(n.Environment)
			} else {
				m.EnvironmentIdle(n.Environment, n.Reservation)
			}
		}
		return nothing{}, nil, nil
	})
}

func serveWorker(mux routes, w WorkerRole) {
	handle(mux, "worker/start", func(ctx context.Context, in lambda.StartRequest, _ []byte) (nothing, []byte, error) {
		if in.Version == nil {
			return nothing{}, nil, errNoVersion
		}
		return nothing{}, nil, w.Start(ctx, in)
	})
	handle(mux, "worker/prepare", func(ctx context.Context, in lambda.Version, _ []byte) (nothing, []byte, error) {
		return nothing{}, nil, w.Prepare(ctx, &in)
	})
	handle(mux, "worker/renew", func(ctx context.Context, in lambda.RenewRequest, _ []byte) (lambda.RenewAnswer, []byte, error) {
		if len(in.Holdings) > maxHoldings {
			return lambda.RenewAnswer{}, nil, fmt.Errorf("%d environments in one renewal, the limit is %d", len(in.Holdings), maxHoldings)
		}
		out, err := w.Renew(ctx, in)
		return out, nil, err
	})
	handle(mux, "worker/end", func(ctx context.Context, in lambda.EnvironmentID, _ []byte) (nothing, []byte, error) {
		return nothing{}, nil, w.End(ctx, in)
	})
	mux["worker/invoke"] = func(c *serverConn, call *incoming) (any, []byte, error) { return invoke(w, c, call) }
}

// invoke runs an invocation. It goes on when its caller leaves; only a streamed response is watched for that.
func invoke(w WorkerRole, c *serverConn, call *incoming) (any, []byte, error) {
	in := new(invokeMeta)
	if err := c.server.codec.decode(call.doc, in, call.compact); err != nil {
		return nil, nil, fmt.Errorf("decoding a call: %w", err)
	}
	in.Invocation.Payload = call.raw
	var out *lambda.Outcome
	var err error
	if in.Stream {
		source := &streamSource{conn: c}
		in.Invocation.Stream = source
		c.watched(0, func() { source.left.Store(true) }, func() { out, err = w.Invoke(c.server.ctx, in.Reservation, &in.Invocation) })
	} else {
		out, err = w.Invoke(c.server.ctx, in.Reservation, &in.Invocation)
	}
	if err != nil {
		return nil, nil, err
	}
	meta := &outcomeMeta{Outcome: *out, PayloadLen: len(out.Payload)}
	meta.Outcome.Payload, meta.Outcome.Log = nil, nil
	raw := out.Payload
	if len(out.Log) > 0 {
		raw = append(raw[:len(raw):len(raw)], out.Log...)
	}
	return meta, raw, nil
}

// routes are the operations by name.
type routes map[string]operation

// operation makes one call. out is a pointer to the answer's document.
type operation func(c *serverConn, call *incoming) (out any, raw []byte, err error)

// incoming is a call as it came. The document is valid during the call only.
type incoming struct {
	doc     []byte
	compact bool
	raw     []byte
}

// handle routes one operation to f. Its context ends when the caller leaves, or the server stops for good.
func handle[In, Out any](mux routes, name string, f func(context.Context, In, []byte) (Out, []byte, error)) {
	mux[name] = func(c *serverConn, call *incoming) (any, []byte, error) {
		in, out := new(In), new(Out)
		if err := c.server.codec.decode(call.doc, in, call.compact); err != nil {
			return nil, nil, fmt.Errorf("decoding a call of %s: %w", name, err)
		}
		ctx, cancel := context.WithCancel(c.server.ctx)
		defer cancel()
		var raw []byte
		var err error
		c.watched(watchAfter, cancel, func() { *out, raw, err = f(ctx, *in, call.raw) })
		return out, raw, err
	}
}
