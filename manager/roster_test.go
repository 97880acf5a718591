package manager_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"berth/lambda"
	"berth/manager"
)

// handed asks for a pool as manager "next" under ring 2, and returns what it gets.
func handed(t *testing.T, m *manager.Manager, have int, pools ...lambda.PoolID) (counts []int, more []bool) {
	t.Helper()
	req := lambda.HandOverRequest{Ring: 2, Successor: "next"}
	for _, p := range pools {
		req.Pools = append(req.Pools, lambda.PoolHandOver{Pool: p, Have: have, Parts: []lambda.Part{{Ring: 1, Manager: "next", To: 10_000}}})
	}
	answer, err := m.HandOver(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range answer.Pools {
		n := 0
		for _, k := range p.Keys {
			n += len(k.Environments)
		}
		counts, more = append(counts, n), append(more, p.More)
	}
	return counts, more
}

// TestAnEnvironmentIsHandedOverWithThePoolOfItsLastCall: a function's pool changes when it gets a limit of its own, or loses it.
func TestAnEnvironmentIsHandedOverWithThePoolOfItsLastCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := setup(10, nil)
		run(t, m)
		makeIdle(t, m, "moves")
		makeIdle(t, m, "stays")
		own := request("moves")
		own.Pool.Function = "moves"
		a, err := m.Acquire(t.Context(), own)
		if err != nil || a.Verdict != lambda.Granted || a.Reservation.Cold {
			t.Fatalf("Acquire in the new pool = %+v, %v", a, err)
		}
		m.EnvironmentIdle(a.Reservation.Environment, a.Reservation.Number)
		counts, _ := handed(t, m, 0, request("").Pool, own.Pool)
		if counts[0] != 1 || counts[1] != 1 {
			t.Errorf("%v environments were handed over, want one of each pool", counts)
		}
		time.Sleep(time.Second)
		if n := m.Status().Environments; n != 0 {
			t.Errorf("%d environments are still held", n)
		}
	})
}

// TestOneAnswerBringsLittleOfManyPools: the calls of all pools of a batch wait for it, so a large pool holds up the others' answer once.
func TestOneAnswerBringsLittleOfManyPools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := setup(1000, nil)
		run(t, m)
		var pools []lambda.PoolID
		for i := range 4 {
			req := request(fmt.Sprint("f", i))
			req.Pool.Function = req.Key.Function
			pools = append(pools, req.Pool)
			for range 60 {
				if a, err := m.Acquire(t.Context(), req); err != nil || a.Verdict != lambda.Granted {
					t.Fatalf("Acquire = %+v, %v", a, err)
				}
			}
		}
		synctest.Wait()
		counts, more := handed(t, m, 0, pools...)
		if got := fmt.Sprint(counts, more); got != "[60 40 0 0] [false true true true]" {
			t.Errorf("one answer brought %s", got)
		}
		if counts, more := handed(t, m, 40, pools[1]); counts[0] != 20 || more[0] {
			t.Errorf("asked again, %v came (more: %v), want the other 20", counts, more)
		}
		if counts, more := handed(t, m, 0, pools[2:]...); fmt.Sprint(counts, more) != "[60 40] [false true]" {
			t.Errorf("asked for the rest, %v came (more: %v)", counts, more)
		}
	})
}
