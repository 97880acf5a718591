package node

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"testing"

	"berth/lambda"
	"berth/members"
	"berth/placement"
	"berth/wire"
)

// taking is a worker that starts whatever it is asked to.
type taking struct{ wire.WorkerRole }

func (taking) Start(context.Context, lambda.StartRequest) error { return nil }

// TestASecondColdStartPrefersTheWorkerThatHasTheCode while it has comparable memory; else load spreads.
func TestASecondColdStartPrefersTheWorkerThatHasTheCode(t *testing.T) {
	server := httptest.NewServer(wire.NewHandler("a token", nil, taking{}))
	t.Cleanup(server.Close)
	var workers []members.Member
	for i := range 2 {
		workers = append(workers, members.Member{
			ID: fmt.Sprintf("w%d", i), Role: members.Worker, Boot: fmt.Sprint("boot ", i), Address: server.Listener.Addr().String(),
			MemoryFree: 8 << 30, Runtimes: map[string]lambda.RuntimeVersionID{"python3.11": "p1"},
		})
	}
	c := aCluster(t, server.Listener.Addr().String(), workers...)
	v := &lambda.Version{Runtime: "python3.11", Code: "digest", MemoryMB: 128}
	share := func(edit func([]placement.Worker)) (percent int) {
		rng := rand.New(rand.NewPCG(1, 2))
		candidates := c.Candidates(v)
		for i := range candidates { // heartbeats come and go: compare what they say at one moment
			candidates[i].FreeBytes = 8 << 30
		}
		edit(candidates)
		for range 1000 {
			if candidates[placement.Choose(rng, candidates, 128<<20)].ID == "w1" {
				percent++
			}
		}
		return percent / 10
	}
	nothing := func([]placement.Worker) {}
	if got := share(nothing); got < 40 || got > 60 {
		t.Errorf("before the first start w1 is chosen %d times of 100, want about half", got)
	}
	w, ok := c.Worker("w1")
	if !ok {
		t.Fatal("w1 is not known")
	}
	if err := w.Start(t.Context(), lambda.StartRequest{Environment: "e", Version: v, Key: lambda.EnvironmentKey{Runtime: "p1"}}); err != nil {
		t.Fatal(err)
	}
	if got := share(nothing); got < 70 || got > 80 { // one draw of four is twice the other
		t.Errorf("when w1 has the code it is chosen %d times of 100, want three of four", got)
	}
	if got := share(func(all []placement.Worker) { all[1].FreeBytes = 4 << 30 }); got > 30 {
		t.Errorf("when w1 has the code but half the memory it is chosen %d times of 100, want one of four", got)
	}
	other := *v
	other.Code = "another"
	if got := c.Candidates(&other); got[0].HasCode || got[1].HasCode {
		t.Errorf("of code that ran nowhere: %+v", got)
	}
}

func TestWhatIsRememberedOfCodeIsBounded(t *testing.T) {
	var p codePlaces
	for i := range maxCodes + 10 {
		for w := range maxPlacesPerCode + 3 {
			p.add(lambda.CodeDigest(fmt.Sprint(i)), lambda.WorkerID(fmt.Sprint(w)))
		}
	}
	if len(p.places) != maxCodes || len(p.order) != maxCodes || len(p.of("9")) != 0 {
		t.Errorf("%d codes are remembered, want the last %d", len(p.places), maxCodes)
	}
	if got := p.of("100"); len(got) != maxPlacesPerCode || got[len(got)-1] != lambda.WorkerID(fmt.Sprint(maxPlacesPerCode+2)) {
		t.Errorf("of one code %v are remembered, want the last %d workers", got, maxPlacesPerCode)
	}
}
