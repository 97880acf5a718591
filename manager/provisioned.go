package manager

import (
	"context"

	"berth/lambda"
)

// Provisioned is ProvisionStatus for who asks from another process. Of a provision that this manager does not have, or has
// not heard of yet, there is nothing. It never waits and never fails.
func (m *Manager) Provisioned(_ context.Context, req lambda.ProvisionedRequest) (lambda.ProvisionedAnswer, error) {
	want := Provision{ID: ProvisionID{Account: req.Account, Function: req.Function, Qualifier: req.Qualifier}, Changed: req.Changed}
	for _, key := range req.Keys {
		want.Targets = append(want.Targets, ProvisionTarget{Key: key})
	}
	return lambda.ProvisionedAnswer(m.ProvisionStatus(want)), nil
}
