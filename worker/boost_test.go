package worker

import (
	"math"
	"testing"

	"berth/lambda"
	"berth/sandbox"
)

// TestInitHasMoreProcessor: a function initialises with the boosted share and runs with its own.
func TestInitHasMoreProcessor(t *testing.T) {
	for memory, want := range map[int]float64{128: 128.0 / 1769, 1769: 1, 10240: 10240.0 / 1769} {
		var atBoot float64
		h := newHarness(t, func(p *standinProcess) sandbox.Exit {
			p.box.mu.Lock()
			atBoot = p.box.spec.Limits.CPUs
			p.box.mu.Unlock()
			return serve(func(_ *standinProcess, payload string) (byte, string) { return 'R', payload })(p)
		})
		v := testVersion()
		v.MemoryMB = memory
		res := h.start(v)
		h.wantOutcome(h.call(res, `1`), lambda.OK, `1`)
		box := h.driver.box(0)
		var got float64
		look := func() bool {
			box.mu.Lock()
			defer box.mu.Unlock()
			got = box.spec.Limits.CPUs
			return math.Abs(got-want) < 1e-9
		}
		eventually(t, "the share of the function", look) // it is set while the first invocation begins
		if math.Abs(got-want) > 1e-9 || atBoot != max(initCPUs, got) {
			t.Errorf("%d MB: %g cores at boot and %g after, want %g and %g", memory, atBoot, got, max(initCPUs, want), want)
		}
	}
}
