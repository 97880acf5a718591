package catalog

import (
	"log/slog"
	"testing"

	"berth/store"
	"berth/store/jetstream"
	"berth/store/memory"
)

// overStores runs one test over each implementation of the port.
func overStores(t *testing.T, test func(t *testing.T, newStore func(testing.TB) store.Catalog)) {
	t.Run("memory", func(t *testing.T) {
		test(t, func(testing.TB) store.Catalog { return memory.NewCatalog() })
	})
	t.Run("jetstream", func(t *testing.T) {
		if testing.Short() {
			t.Skip("-short: starts servers")
		}
		test(t, func(t testing.TB) store.Catalog {
			e, err := jetstream.Open(t.Context(), jetstream.Config{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			return e.Catalog()
		})
	})
}

func newMemory() store.Catalog { return memory.NewCatalog() }
