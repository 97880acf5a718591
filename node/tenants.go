package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"berth/apiserver"
	"berth/frontend"
	"berth/lambda"
	"berth/manager"
)

// tenantsFunc lists the tenants of a function.
type tenantsFunc func(ctx context.Context, account lambda.AccountID, function string) (apiserver.TenantList, error)

// tenantsSubject is where processes are asked for the tenants of a function, on core messages of the engine.
const tenantsSubject = "berth.tenants"

const (
	tenantsLimit     = 500 * time.Millisecond // for the answers
	maxTenantsAnswer = 900 << 10              // bytes: a message has 1 MiB at most
	// maxOwnTenants is how many one process tells of, the busiest; a tenant takes up to 360 bytes.
	maxOwnTenants = 2000
)

// tenantsQuestion names a function.
type tenantsQuestion struct {
	Account  lambda.AccountID `json:"account"`
	Function string           `json:"function"`
}

// tenantsAnswer is what one process knows.
type tenantsAnswer struct {
	Boot      string                 `json:"boot"`
	Tenants   []manager.TenantStatus `json:"tenants,omitempty"`
	Throttles map[string]uint64      `json:"throttles,omitempty"`
}

// tenants asks this process only: there is no other.
func (s *single) tenants(f *frontend.Frontend) tenantsFunc {
	return func(_ context.Context, account lambda.AccountID, function string) (apiserver.TenantList, error) {
		return sumTenants([]tenantsAnswer{{
			Tenants: s.manager.Tenants(account, function, maxOwnTenants), Throttles: f.Throttles(account, function, maxOwnTenants),
		}}), nil
	}
}

// sumTenants adds up what the processes know of each tenant.
func sumTenants(answers []tenantsAnswer) apiserver.TenantList {
	found := map[string]apiserver.TenantStatus{}
	for _, a := range answers {
		for _, t := range a.Tenants {
			s := found[t.Tenant]
			s.Environments, s.Busy, s.Calls = s.Environments+t.Environments, s.Busy+t.Busy, s.Calls+t.Calls
			found[t.Tenant] = s
		}
		for tenant, n := range a.Throttles {
			s := found[tenant]
			s.Throttles += n
			found[tenant] = s
		}
	}
	list := apiserver.TenantList{Tenants: []apiserver.TenantStatus{}, Unbound: found[lambda.Unbound].Environments, Others: found[""]}
	for tenant, s := range found {
		if tenant != lambda.Unbound && tenant != "" {
			s.Tenant = tenant
			list.Tenants = append(list.Tenants, s)
		}
	}
	slices.SortFunc(list.Tenants, func(a, b apiserver.TenantStatus) int {
		return cmp.Or(cmp.Compare(b.Calls+b.Throttles, a.Calls+a.Throttles), cmp.Compare(a.Tenant, b.Tenant))
	})
	for len(list.Tenants) > apiserver.MaxTenants {
		last := len(list.Tenants) - 1
		s, o := list.Tenants[last], &list.Others
		o.Environments, o.Busy, o.Calls, o.Throttles = o.Environments+s.Environments, o.Busy+s.Busy, o.Calls+s.Calls, o.Throttles+s.Throttles
		list.Tenants = list.Tenants[:last]
	}
	return list
}

// serveTenants answers for this process. The subscription ends with the connection.
func (c *cluster) serveTenants(conn *nats.Conn) error {
	_, err := conn.Subscribe(tenantsSubject, func(m *nats.Msg) {
		var q tenantsQuestion
		if json.Unmarshal(m.Data, &q) != nil {
			return
		}
		a := tenantsAnswer{Boot: c.boot}
		if c.manager != nil {
			a.Tenants = c.manager.Tenants(q.Account, q.Function, maxOwnTenants)
		}
		if f := c.calls.Load(); f != nil {
			a.Throttles = f.Throttles(q.Account, q.Function, maxOwnTenants)
		}
		if data, err := json.Marshal(a); err == nil && len(data) <= maxTenantsAnswer {
			_ = m.Respond(data) // who gets no answer says so
		}
	})
	if err != nil {
		return fmt.Errorf("listening to questions for tenants: %w", err)
	}
	return nil
}

// tenants asks all living processes.
func (c *cluster) tenants(ctx context.Context, account lambda.AccountID, function string) (apiserver.TenantList, error) {
	question, err := json.Marshal(tenantsQuestion{account, function})
	if err != nil {
		return apiserver.TenantList{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, tenantsLimit)
	defer cancel()
	inbox, err := c.conn.SubscribeSync(c.conn.NewInbox())
	if err != nil {
		return apiserver.TenantList{}, fmt.Errorf("asking the processes: %w", err)
	}
	defer func() { _ = inbox.Unsubscribe() }() // it fails when the connection is closed, which does the same
	if err := c.conn.PublishRequest(tenantsSubject, inbox.Subject, question); err != nil {
		return apiserver.TenantList{}, fmt.Errorf("asking the processes: %w", err)
	}
	expected := len(processesOf(c.members.View()))
	var answers []tenantsAnswer
	for len(answers) < expected {
		m, err := inbox.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		var a tenantsAnswer
		if len(m.Data) <= maxTenantsAnswer && json.Unmarshal(m.Data, &a) == nil {
			answers = append(answers, a)
		}
	}
	list := sumTenants(answers)
	list.Partial = len(answers) < expected
	return list, nil
}
