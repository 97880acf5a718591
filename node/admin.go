package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth/admin"
	"berth/catalog"
	"berth/lambda"
	"berth/members"
	"berth/ring"
)

const (
	maxAdminBody = 256 << 10 // bytes: the ids of ring.MaxManagers managers
	// deployLimit is how long a deployment waits for the control role to make its version.
	deployLimit = 10 * time.Second
)

// operations is the API of package admin.
type operations struct {
	catalog      *catalog.Catalog
	authenticate func(*http.Request, []byte) (lambda.Caller, error)
	authorize    func(r *http.Request, id string, who lambda.Caller, action, resource string) error // apiserver.Server.Authorize
	status       func(context.Context) (admin.Status, error)
	managers     func() []lambda.ManagerID // those that live and stay; nil in a server of one process
	log          *slog.Logger
}

// handles tells requests of this API apart. The path /berth/v1/account is the Lambda API server's.
func (o *operations) handles(r *http.Request) bool {
	switch r.URL.Path {
	case admin.ClusterPath, admin.RingsPath, admin.RollbackPath:
		return true
	}
	return isRollouts(r.URL.Path)
}

func (o *operations) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header()["X-Amzn-Requestid"] = []string{id}
	answer, err := o.serve(w, r, id)
	if err != nil {
		var known *lambda.Error
		if !errors.As(err, &known) {
			o.log.ErrorContext(r.Context(), "an operator's request failed", "path", r.URL.Path, "err", err)
			known = lambda.Errorf(lambda.ServiceFailure, "An internal error occurred. The server's log has details.")
		}
		w.Header().Set("X-Amzn-Errortype", string(known.Code))
		reply(w, statusOf(known.Code), map[string]string{"Message": known.Message})
		return
	}
	reply(w, http.StatusOK, answer)
}

func reply(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // the client may have gone
}

func statusOf(code lambda.Code) int {
	switch code {
	case lambda.InvalidParameterValue:
		return http.StatusBadRequest
	case lambda.ResourceNotFound:
		return http.StatusNotFound
	case lambda.ResourceConflict:
		return http.StatusConflict
	case lambda.RequestTooLarge:
		return http.StatusRequestEntityTooLarge
	case lambda.ServiceFailure:
		return http.StatusInternalServerError
	}
	return http.StatusForbidden // who asks is not known, or may not
}

func (o *operations) serve(w http.ResponseWriter, r *http.Request, id string) (any, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if err != nil {
		return nil, lambda.Errorf(lambda.RequestTooLarge, "The request must be smaller than %d bytes.", maxAdminBody)
	}
	who, err := o.authenticate(r, body)
	if err != nil {
		return nil, err
	}
	if who.Account != catalog.FirstAccount {
		return nil, lambda.Errorf(lambda.AccessDenied, "Only the first account, %s, looks after the cluster; the request is signed by %s.", catalog.FirstAccount, who.Account)
	}
	act, action := o.operation(r)
	if isRollouts(r.URL.Path) {
		act, action = o.rolloutOperation(r, body)
	}
	if act == nil {
		return nil, lambda.Errorf(lambda.InvalidParameterValue, "%s %s is none of this API's operations.", r.Method, r.URL.Path)
	}
	if err := o.authorize(r, id, who, action, "arn:aws:berth:"+o.catalog.Region()+":"+string(who.Account)+":cluster"); err != nil {
		return nil, err
	}
	return act(r.Context(), body)
}

// operation finds what a request asks for, and the action that its key must be allowed; nil when there is no such operation.
func (o *operations) operation(r *http.Request) (act func(context.Context, []byte) (any, error), action string) {
	switch r.Method + " " + r.URL.Path {
	case "GET " + admin.ClusterPath:
		return func(ctx context.Context, _ []byte) (any, error) { return o.status(ctx) }, "berth:DescribeCluster"
	case "GET " + admin.RingsPath:
		return func(context.Context, []byte) (any, error) { return o.rings(), nil }, "berth:ListRings"
	case "POST " + admin.RingsPath:
		return o.deploy, "berth:DeployRing"
	case "POST " + admin.RollbackPath:
		return o.rollback, "berth:RollbackRing"
	}
	return nil, ""
}

func (o *operations) rings() admin.Rings {
	out := admin.Rings{Rings: []admin.Ring{}}
	for _, v := range o.catalog.RingVersions() {
		out.Rings = append(out.Rings, ringOf(v))
	}
	return out
}

func emptyRing() admin.Ring {
	return admin.Ring{Members: []string{}, State: string(catalog.RingCurrent)}
}

func ringOf(v *catalog.RingVersion) admin.Ring {
	r := admin.Ring{Version: uint64(v.Version), Quota: v.Quota, State: string(v.State), Made: v.Made, Reason: v.Reason, Pinned: v.Pinned}
	for _, id := range v.Members {
		r.Members = append(r.Members, string(id))
	}
	for _, p := range v.Previous {
		r.Previous = append(r.Previous, uint64(p))
	}
	return r
}

func (o *operations) deploy(ctx context.Context, body []byte) (any, error) {
	var ask admin.Deploy
	if err := read(body, &ask); err != nil {
		return nil, err
	}
	if ask.Quota < 0 || len(ask.Managers) > ring.MaxManagers {
		return nil, lambda.Errorf(lambda.InvalidParameterValue, "A quota of %d and %d managers: expected a quota above 0, and at most %d managers.",
			ask.Quota, len(ask.Managers), ring.MaxManagers)
	}
	plan := catalog.RingPlan{Quota: ask.Quota, Reason: "deployed"}
	for _, id := range ask.Managers {
		plan.Managers = append(plan.Managers, lambda.ManagerID(id))
	}
	return o.carryOut(ctx, plan)
}

func (o *operations) rollback(ctx context.Context, body []byte) (any, error) {
	var ask admin.Rollback
	if err := read(body, &ask); err != nil {
		return nil, err
	}
	if o.managers == nil {
		return nil, onlyOne()
	}
	current := o.catalog.RingVersion()
	if current == nil {
		return nil, noRing()
	}
	for _, v := range o.catalog.RingVersions() {
		differs := v.Quota != current.Quota || !slices.Equal(v.Members, current.Members)
		if v.Version < current.Version && (uint64(v.Version) == ask.To || ask.To == 0 && differs) {
			plan := catalog.RingPlan{Quota: v.Quota, Managers: v.Members, Reason: fmt.Sprintf("rolled back to version %d", v.Version)}
			if living := o.living(); !v.Pinned && slices.Equal(living, v.Members) {
				plan.Managers = nil // all that live: as it was then
			}
			return o.carryOut(ctx, plan)
		}
	}
	return nil, lambda.Errorf(lambda.ResourceNotFound, "There is no such earlier ring version: `berth ring history` shows those that are kept.")
}

func (o *operations) living() []lambda.ManagerID {
	if o.managers == nil {
		return nil
	}
	return o.managers()
}

func noRing() error {
	return lambda.Errorf(lambda.ResourceConflict, "There is no ring yet: do a manager and a process with the role control run?")
}

func onlyOne() error {
	return lambda.Errorf(lambda.InvalidParameterValue, "This server is one process with one manager: there is no ring to deploy.")
}

// carryOut plans, and waits for the version that the control role makes of it.
func (o *operations) carryOut(ctx context.Context, plan catalog.RingPlan) (any, error) {
	if o.managers == nil {
		return nil, onlyOne()
	}
	living := o.living()
	missing := slices.DeleteFunc(slices.Clone(plan.Managers), func(id lambda.ManagerID) bool { return slices.Contains(living, id) })
	if len(plan.Managers) > 0 && len(missing) == len(plan.Managers) {
		return nil, lambda.Errorf(lambda.InvalidParameterValue, "None of these managers lives and stays: %s. Those that do: %s.", names(missing), names(living))
	}
	plan, err := o.catalog.PlanRing(ctx, plan)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, deployLimit)
	defer cancel()
	for {
		_, newer := o.catalog.Rings()
		if v := o.catalog.RingVersion(); v != nil && v.Plan >= plan.Generation {
			return ringOf(v), nil
		}
		select {
		case <-newer:
		case <-ctx.Done():
			return nil, lambda.Errorf(lambda.ServiceFailure, "The ring was planned, but no version was made within %s: does a process with the role control run?", deployLimit)
		}
	}
}

func names(ids []lambda.ManagerID) string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, string(id))
	}
	return cmp.Or(strings.Join(out, ", "), "none")
}

func read(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return lambda.Errorf(lambda.InvalidParameterValue, "The request is not the JSON that was expected: %v", err)
	}
	return nil
}

// livingManagers are those that a ring can be made of.
func (c *cluster) livingManagers() []lambda.ManagerID { return staying(c.members.View()) }

func staying(v *members.View) []lambda.ManagerID {
	out := []lambda.ManagerID{}
	for _, m := range v.Managers {
		if !m.Draining {
			out = append(out, lambda.ManagerID(m.ID))
		}
	}
	return out
}
