package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/smithy-go"
)

// TestCourt: the chaos test can fail.
func TestCourt(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	call := func(from, to int, err error) answer {
		return answer{function: "f", began: at(from), ended: at(to), err: err, mark: mark{Begin: unix(at(from)), End: unix(at(to))}}
	}
	throttle := &smithy.GenericAPIError{Code: "TooManyRequestsException"}
	lost := &smithy.GenericAPIError{Code: "ServiceException", Message: "The worker that ran the call was lost."}
	answers := []answer{
		call(0, 100, nil), call(50, 150, nil), call(60, 61, throttle), // two of two are open
		call(200, 201, throttle),              // nobody is
		call(300, 350, lost),                  // no worker was killed
		call(20_050, 20_060, throttle),        // a manager was killed just before
		call(20_100, 20_200, nil),             // three at once: one more than the limit
		call(20_110, 20_200, nil),             //
		call(20_120, 20_190, nil),             //
		call(40_000, 40_100, lost),            // a worker was killed
		call(40_000, 40_100, errors.New("x")), // no connection is to stay lost
		call(60_000, 60_010, nil), call(60_001, 60_010, nil), call(60_002, 60_009, nil),
	}
	c := newCourt([]kill{{"manager", "m", at(20_000)}, {"worker", "w", at(40_050)}}, map[string]int{"f": 2}, answers)
	want := []verdict{fine, fine, atCap, wrong, wrong, recovered, fine, fine, fine, onWorker, wrong, fine, fine, fine}
	for i, a := range answers {
		if got := c.judge(&a); got != want[i] {
			t.Errorf("call %d: %q, want %q", i, got, want[i])
		}
	}
	beyond, within := c.excesses(answers, "f", 1)
	if len(beyond) != 1 || within != 1 {
		t.Errorf("beyond the limit: %v; while a manager was replaced: %d; want one each", beyond, within)
	}
	if list := c.troubles(answers[:6]); len(list) != 3 || list[0].after != 60*time.Millisecond || list[0].kill.id != "m" {
		t.Errorf("troubles %+v, want 3, the first 60ms after m", list)
	}
}
