package runtimeapi

import (
	"cmp"
	"log/slog"
	"net/http"
	"sync"
)

// Config says whose Runtime API this is.
type Config struct {
	FunctionARN string       // for log lines only
	Version     string       // for log lines only
	Log         *slog.Logger // nil discards
	// Other answers requests for paths that are not the Runtime API's. It gets bodies whole, and the request's context ends
	// when the client leaves. Optional: 404.
	Other http.Handler
	// Conns bounds the connections; 0 is 16.
	Conns int
}

// API is the Runtime API of one environment: the state of its runtime process, and two faces to move it. It starts no
// goroutine of its own. It holds no memory to speak of while the runtime waits.
type API struct {
	log     *slog.Logger
	other   http.Handler
	conns   int         // Config.Conns
	results chan result // capacity 1; see finish
	events  eventWriter // Invoke's

	mu       sync.Mutex
	closed   bool
	gen      uint64     // counts resets: what an earlier process left under way is recognised by it
	phase    phase      //
	changed  *change    // told and forgotten at the next change of phase; nil when nobody waits
	initErr  *InitError // in phase failed
	event    *Event     // from running until the next event is asked for
	waiting  bool       // an Invoke waits for a result
	stream   *stream    // of the Invoke that is waiting, if its response can be streamed
	streamed bool       // the event's response has begun to be streamed
	poll     *httpConn  // its request waits for an event
	conn     *frameConn // the frames face, while it is connected
	scratch  []byte     // where the one answer that is being received grows
}

// New makes an API whose runtime has not started.
func New(cfg Config) *API {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	} else {
		log = log.With("function", cfg.FunctionARN, "version", cfg.Version)
	}
	return &API{log: log, other: cfg.Other, conns: cmp.Or(cfg.Conns, UsualConns), results: make(chan result, 1)}
}
