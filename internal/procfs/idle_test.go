package procfs

import (
	"testing"
	"time"
)

func TestParseTimes(t *testing.T) {
	for text, want := range map[string]times{
		"cpu  1 2 3 40 50 6 7 8 900 1000\ncpu0 1": {all: 117, idle: 90},
		"cpu 1 2 3 40 50":                         {all: 96, idle: 90}, // as old kernels say
	} {
		if got, err := parseTimes([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "cpu", "cpu 1 2 3 4", "cpu0 1 2 3 4 5 6", "cpu 1 2 x 4 5 6"} {
		if got, err := parseTimes([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestIdleShare(t *testing.T) {
	var idle Idle
	if share := idle.Share(); share != 1 {
		t.Errorf("before anything is known: %v", share)
	}
	if first := idle.Share(); first != 1 {
		t.Errorf("too soon for another measurement: %v", first)
	}
	time.Sleep(2 * idleSample)
	if share := idle.Share(); share < 0 || share > 1 || idle.last.all == 0 {
		t.Errorf("share %v of %+v", share, idle.last)
	}
}
