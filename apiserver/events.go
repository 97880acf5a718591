package apiserver

import (
	"context"
	"encoding/json"
	"net/http"

	"berth/lambda"
)

// Events takes asynchronous invocations, and knows how they are.
type Events interface {
	// Accept stores an invocation durably before it returns nil.
	Accept(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) error
	// Status counts a function's events.
	Status(ctx context.Context, account lambda.AccountID, function string) (EventStatus, error)
}

// EventStatus counts the events of one function.
type EventStatus struct {
	Queued   int            `json:"queued"`            // wait for their turn
	InFlight int            `json:"inFlight"`          // run now
	Retrying int            `json:"retrying"`          // failed or throttled, and wait for their next attempt
	Dropped  map[string]int `json:"dropped"`           // by reason, since the servers started
	Partial  bool           `json:"partial,omitempty"` // some server did not answer: InFlight and Dropped lack its share
}

// accept answers an Event invocation once it is stored. A function that is being made, or has failed, may be ready when its
// turn comes.
func (s *Server) accept(c *call, ref lambda.Ref, in *lambda.Invocation) error {
	_, err := s.cfg.Catalog.Resolve(ref)
	if err != nil && lambda.CodeOf(err) != lambda.ResourceConflict {
		return err
	}
	if f, ok := s.cfg.Catalog.Function(idOf(ref)); ok { // also one that is not ready yet
		if err := f.Latest.CheckTenant(in.Tenant); err != nil {
			return err
		}
	}
	if s.cfg.Events == nil {
		return lambda.Errorf(lambda.NotImplemented, "This server takes no asynchronous invocations.")
	}
	if err := s.cfg.Events.Accept(c.r.Context(), ref, in); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// serveInvokeAsync answers InvokeAsync, which was there before Invoke and is deprecated: an Event invocation of $LATEST.
func (s *Server) serveInvokeAsync(c *call) error {
	if len(c.body) > lambda.MaxAsync {
		return lambda.Errorf(lambda.RequestTooLarge, "%d byte payload is too large for the %s invocation type (limit %d bytes)",
			len(c.body), event, lambda.MaxAsync)
	}
	ref, err := s.invocable(c, "lambda:InvokeAsync", c.path.Get("FunctionName"), "")
	if err != nil {
		return err
	}
	in := &lambda.Invocation{RequestID: c.id, Payload: c.body, TraceID: traceID(first(c.r.Header, traceHeader), c.id)}
	if err := checkJSON(in.Payload); err != nil {
		return err
	}
	return s.accept(c, ref, in)
}

// eventsPath shows how the events of a function are, schedulesPath what is scheduled. They belong to the caller's account.
const (
	eventsPath    = ownPrefix + "v1/events/"
	schedulesPath = ownPrefix + "v1/schedules"
	// maxScheduleRequest bounds the body of a request, in bytes: a payload, and what goes around it.
	maxScheduleRequest = lambda.MaxAsync + 16<<10
)

func isEventsPath(path string) bool {
	return hasPrefix(path, eventsPath) || path == schedulesPath || hasPrefix(path, schedulesPath+"/")
}

func hasPrefix(path, prefix string) bool {
	return len(path) >= len(prefix) && path[:len(prefix)] == prefix
}

// serveEvents answers eventsPath and schedulesPath.
func (s *Server) serveEvents(c *call) error {
	if err := s.refuseUnsigned(c); err != nil {
		return err
	}
	body, size, err := readBody(c.r, maxScheduleRequest)
	if err != nil {
		return err
	}
	if size > maxScheduleRequest {
		return lambda.Errorf(lambda.RequestEntityTooLarge, "Request must be smaller than %d bytes", maxScheduleRequest)
	}
	if err = s.identify(c, body); err != nil {
		return err
	}
	if s.cfg.Events == nil {
		return lambda.Errorf(lambda.NotImplemented, "This server takes no asynchronous invocations.")
	}
	c.body = body
	if hasPrefix(c.r.URL.Path, eventsPath) {
		return s.serveEventStatus(c, c.r.URL.Path[len(eventsPath):])
	}
	return s.serveSchedules(c)
}

func (s *Server) serveEventStatus(c *call, name string) error {
	if c.r.Method != http.MethodGet {
		return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET.", c.r.Method, c.r.URL.Path)
	}
	ref, err := s.ref(c, &name, nil)
	if err != nil {
		return err
	}
	ref.Qualifier = ""
	if err := s.permitOwn(c, "berth:GetEvents", ref.ARN()); err != nil {
		return err
	}
	f, err := s.function(c, &name)
	if err != nil {
		return err
	}
	status, err := s.cfg.Events.Status(c.r.Context(), c.account, f.Latest.Function)
	if err != nil {
		return err
	}
	return answerJSON(c, status)
}

func answerJSON(c *call, v any) error {
	c.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(c.w).Encode(v)
}
