package frontend

import (
	"context"
	"errors"
	"sync"
	"time"

	"berth/catalog"
	"berth/lambda"
)

// tokenSlack is by how much a token outlives the function's time limit: its environment may have to start first.
const tokenSlack = time.Minute

var errNoTokens = errors.New("this process signs no tenant tokens")

// addToken gives an invocation a token of its own: nobody else has the same one, and it ends soon after the call.
func (f *Frontend) addToken(ctx context.Context, t *catalog.Target, e lambda.EnvironmentID, inv *lambda.Invocation) error {
	v, err := t.Version, errNoTokens
	if f.cfg.Token != nil {
		inv.TenantToken, err = f.cfg.Token(ctx, lambda.TokenClaims{
			Audience: t.TokenAudience, RequestID: inv.RequestID, Account: v.Account, Function: v.Function, Version: v.Number,
			Tenant: inv.Tenant, Environment: e, Life: min(v.Timeout+tokenSlack, lambda.MaxTokenLife),
		})
	}
	if err != nil {
		return errors.Join(lambda.Errorf(lambda.ServiceFailure, "The tenant token of the call could not be made. Try again."), err)
	}
	return nil
}

// maxThrottled bounds the tenants whose throttles a frontend counts; further ones are counted together under "".
const maxThrottled = 20_000

// throttles counts the refused calls of tenants.
type throttles struct {
	mu    sync.Mutex
	count map[throttledTenant]uint64
}

type throttledTenant struct {
	account          lambda.AccountID
	function, tenant string
}

func (t *throttles) add(key lambda.EnvironmentKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count == nil {
		t.count = map[throttledTenant]uint64{}
	}
	k := throttledTenant{key.Account, key.Function, key.Tenant}
	if _, known := t.count[k]; !known && len(t.count) >= maxThrottled {
		k.tenant = ""
	}
	t.count[k]++
}

// Throttles returns how many calls of each tenant of a function this frontend has refused, at most so many tenants; "" are
// those that it does not tell apart.
func (f *Frontend) Throttles(account lambda.AccountID, function string, most int) map[string]uint64 {
	f.throttles.mu.Lock()
	defer f.throttles.mu.Unlock()
	out := map[string]uint64{}
	for k, n := range f.throttles.count {
		if k.account == account && k.function == function && len(out) < most {
			out[k.tenant] = n
		}
	}
	return out
}
