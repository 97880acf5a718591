package memory_test

import (
	"testing"

	"berth/lambda"
	"berth/store"
	"berth/store/memory"
	"berth/store/storetest"
)

func TestCatalog(t *testing.T) {
	storetest.Catalog(t, func(*testing.T) store.Catalog { return memory.NewCatalog() })
}

func TestBlobs(t *testing.T) {
	storetest.Blobs(t, func(*testing.T) (store.Blobs, storetest.Damage) {
		b := memory.NewBlobs()
		return b, func(t *testing.T, d lambda.CodeDigest) { b.Damage(d) }
	})
}

func TestQueue(t *testing.T) {
	storetest.Queue(t, func(*testing.T) store.Queue { return memory.NewQueue() })
}
