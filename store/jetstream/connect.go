package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Limits of Connect.
const (
	connectWithin = 5 * time.Second        // in all: processes of one cluster are often started together
	connectTry    = 2 * time.Second        // one try
	connectPause  = 200 * time.Millisecond // between two
)

// Remote says how to reach an engine in another process.
type Remote struct {
	URL    string       // "nats://host:port", several separated by commas
	Token  string       // never logged
	TLS    *tls.Config  // nil is plain TCP
	Logger *slog.Logger // nil is slog.Default()
}

// Connect opens an engine that runs in another process, for which it tries for some seconds. The streams are made if they
// are not there. The error says whether nobody answered or the token was refused. An engine that restarts later is found
// again; calls wait for it as long as their own limits allow.
func Connect(ctx context.Context, r Remote) (*Engine, error) {
	config := Config{Logger: r.Logger, Token: r.Token, TLS: r.TLS}
	config.setDefaults()
	e := &Engine{config: config, log: config.Logger.With("part", "engine"), stop: func() {}}
	if err := e.dial(ctx, r); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := e.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("using the engine at %s: %w", r.URL, err), e.Close())
	}
	return e, nil
}

func (e *Engine) dial(ctx context.Context, r Remote) (err error) {
	options := append(e.options(), nats.Timeout(connectTry),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				e.log.Warn("the connection to the engine broke; trying again until it is back", "engine", r.URL, "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { e.log.Info("connected to the engine again", "engine", r.URL) }))
	if r.TLS != nil {
		options = append(options, nats.Secure(r.TLS))
	}
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	for {
		e.conn, err = nats.Connect(r.URL, options...)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired):
			return fmt.Errorf("the engine at %s refuses the cluster token: all processes need the one that the engine has: %w", r.URL, err)
		}
		select {
		case <-time.After(connectPause):
		case <-ctx.Done():
			return fmt.Errorf("no engine answers at %s: is it running, and is the address right? %w", r.URL, err)
		}
	}
}
