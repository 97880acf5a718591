package worker

import (
	"context"

	"berth/lambda"
)

// Adopt gives environments of a lost owner to another one.
func (w *Worker) Adopt(_ context.Context, req lambda.AdoptRequest) (lambda.AdoptAnswer, error) {
	return lambda.AdoptAnswer{}, nil
}
