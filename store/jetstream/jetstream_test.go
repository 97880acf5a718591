package jetstream

import (
	"context"
	"log/slog"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/lambda"
	"berth/store"
	"berth/store/storetest"
)

func open(t testing.TB, config Config) *Engine {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Dir == "" {
		config.Dir = t.TempDir()
	}
	e, err := Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}

func TestCatalog(t *testing.T) {
	storetest.Catalog(t, func(t *testing.T) store.Catalog { return open(t, Config{}).Catalog() })
}

func TestBlobs(t *testing.T) {
	storetest.Blobs(t, func(t *testing.T) (store.Blobs, storetest.Damage) {
		e := open(t, Config{})
		return e.Blobs(), func(t *testing.T, d lambda.CodeDigest) { damage(t, e, d) }
	})
}

func TestQueue(t *testing.T) {
	storetest.Queue(t, func(t *testing.T) store.Queue { return open(t, Config{}).Queue() })
}

func TestBlobMemory(t *testing.T) {
	storetest.BoundedMemory(t, open(t, Config{}).Blobs())
}

// damage replaces a blob's first chunk, or its head if it has no chunks.
func damage(t *testing.T, e *Engine, d lambda.CodeDigest) {
	h, _, err := e.blobs.find(t.Context(), d)
	if err != nil || h == nil {
		t.Fatalf("blob %s: %v, %v", d, h, err)
	}
	subject := headSubject + string(d)
	if h.Chunks > 0 {
		subject = chunk(h.Upload, 1)
	}
	m, err := e.blobs.stream.GetLastMsgForSubject(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	m.Data[len(m.Data)/2] ^= 1
	if _, err := e.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: m.Data}, jetstream.WithExpectStream("BERTH_BLOBS")); err != nil {
		t.Fatal(err)
	}
}
