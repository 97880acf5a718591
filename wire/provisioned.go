package wire

import (
	"context"
	"fmt"
	"time"

	"berth/lambda"
)

// provisionedLimit bounds a question for provisioned concurrency: the manager answers from memory.
const provisionedLimit = time.Second

// maxProvisionedKeys bounds one such question: an alias has two versions at most.
const maxProvisionedKeys = 16

// Provisioned asks what there is of a provisioned concurrency, for a second at most. Error: lambda.ErrUnreachable.
func (m *Manager) Provisioned(ctx context.Context, req lambda.ProvisionedRequest) (lambda.ProvisionedAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, provisionedLimit)
	defer cancel()
	out, _, err := call[lambda.ProvisionedAnswer](ctx, m.client, m.addr, "manager/provisioned", req, nil)
	return out, err
}

func serveProvisioned(mux routes, m ManagerRole) {
	handle(mux, "manager/provisioned", func(ctx context.Context, in lambda.ProvisionedRequest, _ []byte) (lambda.ProvisionedAnswer, []byte, error) {
		if len(in.Keys) > maxProvisionedKeys {
			return lambda.ProvisionedAnswer{}, nil, fmt.Errorf("%d kinds of environments in one question, the limit is %d", len(in.Keys), maxProvisionedKeys)
		}
		out, err := m.Provisioned(ctx, in)
		return out, nil, err
	})
}
