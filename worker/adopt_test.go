package worker

import (
	"errors"
	"slices"
	"testing"
	"time"

	"berth/lambda"
	"berth/ring"
)

// adopted asks for the environments of m1 for an owner, and returns them by id.
func (h *harness) adopted(req lambda.AdoptRequest) map[lambda.EnvironmentID]lambda.Handed {
	h.t.Helper()
	answer, err := h.Adopt(h.t.Context(), req)
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[lambda.EnvironmentID]lambda.Handed{}
	for _, p := range answer.Pools {
		for _, k := range p.Keys {
			for _, e := range k.Environments {
				out[e.Environment] = e
			}
		}
	}
	return out
}

func TestAdoptedEnvironmentsAreTheirNewOwnersOnly(t *testing.T) {
	gate := make(chan struct{})
	h := newHarness(t, serve(func(_ *standinProcess, payload string) (byte, string) {
		if payload == `"wait"` {
			<-gate
		}
		return 'R', payload
	}))
	idle, running, reserved := h.start(testVersion()), h.start(testVersion()), h.start(testVersion())
	idle.Number, running.Number, reserved.Number = 1, 1, 1
	h.call(idle, `1`)
	h.call(running, `1`)
	done := make(chan error, 1)
	running.Number = 2
	go func() {
		_, err := h.Invoke(t.Context(), running, &lambda.Invocation{RequestID: "r", Payload: []byte(`"wait"`)})
		done <- err
	}()
	for id, state := range map[lambda.EnvironmentID]State{idle.Environment: Idle, running.Environment: Running, reserved.Environment: Reserved} {
		eventually(t, "it is "+string(state), func() bool { s, _ := h.registry.find(id).look(); return s == state })
	}

	req := lambda.AdoptRequest{From: "m1", Owner: "m2", Epoch: 2}
	for range 2 { // the answer may be lost, and asked for again
		got := h.adopted(req)
		for res, want := range map[lambda.EnvironmentID]lambda.Handed{
			idle.Environment:     {State: lambda.HandedIdle, Reservation: 2}, // the lost owner may have given 2 away
			running.Environment:  {State: lambda.HandedInUse, Reservation: 2},
			reserved.Environment: {State: lambda.HandedInUse, Reservation: 1},
		} {
			if e := got[res]; e.State != want.State || e.Reservation != want.Reservation || e.Epoch != 2 || e.Worker != "w1" {
				t.Errorf("%s is handed as %+v, want %+v", res, e, want)
			}
		}
	}
	idle.Number = 2
	if _, err := h.Invoke(t.Context(), idle, &lambda.Invocation{RequestID: "r", Payload: []byte(`2`)}); !errors.Is(err, ErrNotReserved) {
		t.Errorf("the lost owner's next reservation: %v", err)
	}
	idle.Number = 3
	h.wantOutcome(h.call(idle, `3`), lambda.OK, `3`)

	holding := []lambda.Holding{{Environment: reserved.Environment, Reservation: 1, GiveBack: true, Epoch: 1}}
	stale, err := h.Renew(t.Context(), lambda.RenewRequest{Owner: "m1", Holdings: holding})
	if err != nil || !slices.Equal(stale.Gone, []lambda.EnvironmentID{reserved.Environment}) || len(stale.Idle) > 0 {
		t.Errorf("the lost owner was answered %+v, %v", stale, err)
	}
	if s, _ := h.registry.find(reserved.Environment).look(); s != Reserved {
		t.Errorf("the lost owner's word made it %s", s)
	}
	holding[0].Epoch = 3
	if fresh, err := h.Renew(t.Context(), lambda.RenewRequest{Owner: "m3", Holdings: holding}); err != nil || !slices.Equal(fresh.Idle, []lambda.EnvironmentID{reserved.Environment}) {
		t.Errorf("an owner of a newer ring was answered %+v, %v", fresh, err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAdoptersShareByIDs(t *testing.T) {
	h := newHarness(t, serve(echo))
	const n = 40
	for range n {
		h.start(testVersion())
	}
	parts := []lambda.Part{{Manager: "a", To: 30}, {Manager: "b", From: 30, To: 40}}
	a := h.adopted(lambda.AdoptRequest{From: "m1", Owner: "a", Epoch: 2, Parts: parts})
	b := h.adopted(lambda.AdoptRequest{From: "m1", Owner: "b", Epoch: 2, Parts: parts})
	if len(a)+len(b) != n {
		t.Errorf("%d and %d were adopted, of %d", len(a), len(b), n)
	}
	for id := range a {
		if ring.Heir(id, false, parts) != "a" {
			t.Errorf("%s was adopted by the wrong one", id)
		}
	}
	if other := h.adopted(lambda.AdoptRequest{From: "m1", Owner: "c", Epoch: 3, Pool: lambda.PoolID{Account: "9"}}); len(other) > 0 {
		t.Errorf("%d environments of another pool were adopted", len(other))
	}
}

func TestARestartedOwnerFindsItsEnvironments(t *testing.T) {
	h := newHarness(t, serve(echo))
	res := h.start(testVersion())
	res.Number = 1
	h.call(res, `1`)
	eventually(t, "it is idle", func() bool { s, _ := h.registry.find(res.Environment).look(); return s == Idle })
	got := h.adopted(lambda.AdoptRequest{From: "m1", Owner: "m1", Epoch: 5, AllPools: true})
	if e := got[res.Environment]; e.State != lambda.HandedIdle || e.Reservation != 1 || e.Epoch != 0 || time.Since(e.Since) > time.Minute {
		t.Errorf("it is handed as %+v", e)
	}
	answer, err := h.Adopt(t.Context(), lambda.AdoptRequest{From: "m1"})
	if err != nil || len(answer.Pools) != 1 || len(answer.Pools[0].Keys) > 0 {
		t.Errorf("the pools of m1: %+v, %v", answer, err)
	}
}
