package wire

import (
	"reflect"
	"testing"
	"time"

	"berth/lambda"
)

// TestHandOverEdges: what managers and workers say of one another's environments arrives as it was said.
func TestHandOverEdges(t *testing.T) {
	handed := lambda.HandedPool{Pool: pool, Busy: 3, More: true, Moved: 9, Keys: []lambda.HandedKey{{
		Key: key, Timeout: time.Second, MemoryMB: 128, Environments: []lambda.Handed{{
			Environment: "e-1", Worker: "w-1", State: lambda.HandedInUse, Reservation: 1<<63 + 1, Expires: reservation.Expires,
			Since: reservation.Expires, Epoch: 1 << 63, Provisioned: true, Qualifier: "live",
		}},
	}}}
	d := &double{
		handed:  lambda.HandOverAnswer{Pools: []lambda.HandedPool{handed}},
		adopted: lambda.AdoptAnswer{Pools: []lambda.HandedPool{handed}, Next: "e-1", Left: 2},
	}
	m, w, _ := serve(t, d)
	part := lambda.Part{Ring: 1, Manager: "m-2", From: 3, To: 4}
	over := lambda.HandOverRequest{Ring: 2, Successor: "m-1", Pools: []lambda.PoolHandOver{{Pool: pool, Have: 7, Parts: []lambda.Part{part}}}}
	if answer, err := m.HandOver(t.Context(), over); err != nil || !reflect.DeepEqual(answer, d.handed) {
		t.Errorf("HandOver = %+v, %v", answer, err)
	}
	adopt := lambda.AdoptRequest{From: "m-1", Owner: "m-2", Epoch: 1 << 63, Pool: pool, AllPools: true, Parts: []lambda.Part{part}, After: "e-0"}
	if answer, err := w.Adopt(t.Context(), adopt); err != nil || !reflect.DeepEqual(answer, d.adopted) {
		t.Errorf("Adopt = %+v, %v", answer, err)
	}
	offer := lambda.OfferRequest{Ring: 2, Manager: "m-1"}
	for range lambda.MaxHandedPools + 1 {
		offer.Pools = append(offer.Pools, pool)
	}
	if err := m.Offer(t.Context(), offer); err != nil {
		t.Errorf("Offer: %v", err)
	}
	asked := d.requests()
	if len(asked) != 4 || !reflect.DeepEqual(asked[0], over) || !reflect.DeepEqual(asked[1], adopt) {
		t.Fatalf("the roles were asked %+v", asked)
	}
	if first, second := asked[2].(lambda.OfferRequest), asked[3].(lambda.OfferRequest); len(first.Pools) != lambda.MaxHandedPools || len(second.Pools) != 1 {
		t.Errorf("%d pools and then %d were offered", len(first.Pools), len(second.Pools))
	}
	over.Pools = append(over.Pools, over.Pools[0])
	if _, err := m.HandOver(t.Context(), over); err == nil {
		t.Error("an answer for fewer pools than were asked for was taken")
	}
}
