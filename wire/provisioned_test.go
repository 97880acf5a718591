package wire

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"berth/lambda"
)

// thereIs is what doubles have of every provisioned concurrency.
var thereIs = lambda.ProvisionedAnswer{Allocated: 7, Current: 5, Failed: true}

func (d *double) Provisioned(ctx context.Context, req lambda.ProvisionedRequest) (lambda.ProvisionedAnswer, error) {
	return thereIs, d.note(ctx, req)
}

func TestProvisionedIsAskedAndAnswered(t *testing.T) {
	d := &double{}
	m, _, s := serve(t, d)
	req := lambda.ProvisionedRequest{
		Account: "000000000001", Function: "f", Qualifier: "live", Changed: time.Unix(1<<30, 123456789).UTC(),
		Keys: []lambda.EnvironmentKey{{Account: "000000000001", Function: "f", Version: "1", ConfigID: "c", Runtime: "r"}, {Function: "f", Version: "2"}},
	}
	if out, err := m.Provisioned(t.Context(), req); err != nil || out != thereIs {
		t.Errorf("Provisioned = %+v, %v", out, err)
	}
	if got := d.requests(); len(got) != 1 || !reflect.DeepEqual(got[0], req) {
		t.Errorf("the role was asked %+v, want %+v", got, req)
	}
	req.Keys = make([]lambda.EnvironmentKey, maxProvisionedKeys+1)
	if _, err := m.Provisioned(t.Context(), req); err == nil || len(d.requests()) != 1 {
		t.Errorf("a question for %d keys: %v", len(req.Keys), err)
	}
	s.stop()
	if _, err := m.Provisioned(t.Context(), req); !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("of a manager that is gone: %v", err)
	}
}

func TestAManagerThatHangsIsAskedForASecond(t *testing.T) {
	d := &double{hold: make(chan struct{})}
	m, _, _ := serve(t, d)
	defer close(d.hold)
	if _, err := m.Provisioned(t.Context(), lambda.ProvisionedRequest{}); !errors.Is(err, lambda.ErrUnreachable) {
		t.Errorf("Provisioned = %v, want it unreachable", err)
	}
}
