package apiserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"berth/catalog"
	"berth/lambda"
)

// maxScheduleName bounds the name of a schedule, in characters.
const maxScheduleName = 64

// ScheduleDocument is a schedule on schedulesPath: PUT takes the first part, answers have all.
type ScheduleDocument struct {
	Name     string          `json:"name"`
	Function string          `json:"function"`
	Cron     string          `json:"cron,omitempty"`
	Rate     string          `json:"rate,omitempty"` // "5m"
	Payload  json.RawMessage `json:"payload,omitempty"`

	Created    time.Time `json:"created,omitzero"`
	Next       time.Time `json:"next,omitzero"`
	Last       time.Time `json:"last,omitzero"` // tick
	Fired      int       `json:"fired"`
	Missed     int       `json:"missed"`
	LastMissed time.Time `json:"lastMissed,omitzero"`
	Failure    string    `json:"failure,omitempty"`
}

// serveSchedules lists (GET), shows (GET NAME), adds (PUT NAME) and removes (DELETE NAME) schedules.
func (s *Server) serveSchedules(c *call) error {
	name := strings.TrimPrefix(strings.TrimPrefix(c.r.URL.Path, schedulesPath), "/")
	if name == "" {
		if c.r.Method != http.MethodGet {
			return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET.", c.r.Method, c.r.URL.Path)
		}
		if err := s.permitOwn(c, "berth:ListSchedules", "*"); err != nil {
			return err
		}
		list := []ScheduleDocument{}
		for _, one := range s.cfg.Catalog.Schedules(c.account) {
			list = append(list, scheduleDocument(one))
		}
		return answerJSON(c, map[string]any{"schedules": list})
	}
	if len(name) > maxScheduleName || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		return invalid("The name of a schedule has 1 to %d letters, digits, - and _; got %.80q.", maxScheduleName, name)
	}
	action := map[string]string{http.MethodPut: "berth:PutSchedule", http.MethodDelete: "berth:DeleteSchedule"}[c.r.Method]
	if action == "" {
		action = "berth:GetSchedule"
	}
	if err := s.permitOwn(c, action, s.ownARN(c, "schedule/"+name)); err != nil {
		return err
	}
	switch c.r.Method {
	case http.MethodGet:
		one, err := s.cfg.Catalog.Schedule(c.account, name)
		if err != nil {
			return err
		}
		return answerJSON(c, scheduleDocument(one))
	case http.MethodPut:
		return s.addSchedule(c, name)
	case http.MethodDelete:
		if err := s.cfg.Catalog.DeleteSchedule(c.r.Context(), c.account, name); err != nil {
			return err
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET, PUT or DELETE.", c.r.Method, c.r.URL.Path)
}

// addSchedule checks a schedule while its user is there to hear what is wrong.
func (s *Server) addSchedule(c *call, name string) error {
	var in ScheduleDocument
	decoder := json.NewDecoder(bytes.NewReader(c.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return lambda.Errorf(lambda.SerializationFailure, `expected {"function":NAME,"cron":EXPRESSION or "rate":DURATION,"payload":JSON}: %v`, err)
	}
	if len(in.Payload) > lambda.MaxAsync {
		return lambda.Errorf(lambda.RequestTooLarge, "%d byte payload is too large for the Event invocation type (limit %d bytes)",
			len(in.Payload), lambda.MaxAsync)
	}
	ref, err := lambda.ParseRef(in.Function, "", c.account, s.cfg.Catalog.Region())
	if err != nil {
		return err
	}
	if err := s.permitOwn(c, invokeAction, ref.ARN()); err != nil { // else a schedule would call what its maker may not
		return err
	}
	if _, err := s.cfg.Catalog.Resolve(ref); lambda.CodeOf(err) == lambda.ResourceNotFound {
		return err
	}
	if err := s.refuseTenants(ref, "A schedule"); err != nil { // it names no tenant
		return err
	}
	now := time.Now()
	one := catalog.Schedule{Name: name, Account: c.account, Function: in.Function, Cron: in.Cron, Payload: in.Payload, Created: now, Last: now}
	if in.Rate != "" {
		if one.Rate, err = time.ParseDuration(in.Rate); err != nil || one.Rate <= 0 {
			return invalid("The rate %.80q is no duration like 30s, 5m or 24h.", in.Rate)
		}
	}
	ticks, err := one.Ticks()
	if err != nil {
		return invalid("%v", err)
	}
	if ticks.Next(now).IsZero() {
		return invalid("The cron expression %q never fires.", one.Cron)
	}
	written, err := s.cfg.Catalog.CreateSchedule(c.r.Context(), one)
	if err != nil {
		return err
	}
	s.log.Info("schedule added", "account", c.account, "schedule", name, "function", in.Function)
	return answerJSON(c, scheduleDocument(written))
}

func scheduleDocument(one *catalog.Schedule) ScheduleDocument {
	out := ScheduleDocument{
		Name: one.Name, Function: one.Function, Cron: one.Cron, Payload: one.Payload, Created: one.Created,
		Fired: one.Fired, Missed: one.Missed, LastMissed: one.LastMissed, Failure: one.Failure,
	}
	if one.Rate > 0 {
		out.Rate = one.Rate.String()
	}
	if one.Last.After(one.Created) {
		out.Last = one.Last
	}
	if ticks, err := one.Ticks(); err == nil {
		out.Next = ticks.Next(one.Last)
	}
	return out
}
