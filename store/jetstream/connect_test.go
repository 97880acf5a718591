package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"berth/lambda"
	"berth/store"
	"berth/store/storetest"
)

const token = "a-token-for-tests"

// connected returns an engine that is reached over a socket, and the one behind it.
func connected(t testing.TB, config Config) (remote, host *Engine) {
	t.Helper()
	config.Listen, config.Token = "127.0.0.1:0", token
	host = open(t, config)
	remote, err := Connect(t.Context(), Remote{URL: host.URL(), Token: token, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := remote.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return remote, host
}

func TestConnectedCatalog(t *testing.T) {
	storetest.Catalog(t, func(t *testing.T) store.Catalog {
		remote, _ := connected(t, Config{})
		return remote.Catalog()
	})
}

func TestConnectedBlobs(t *testing.T) {
	storetest.Blobs(t, func(t *testing.T) (store.Blobs, storetest.Damage) {
		remote, host := connected(t, Config{})
		return remote.Blobs(), func(t *testing.T, d lambda.CodeDigest) { damage(t, host, d) }
	})
}

func TestWhoConnectsSeesTheOthersWrites(t *testing.T) {
	remote, host := connected(t, Config{})
	apply(t, host, store.Create("here", []byte("1")))
	apply(t, remote, store.Create("there", []byte("2")))
	for _, e := range []*Engine{remote, host} {
		if all := everything(t, e); len(all) != 2 {
			t.Errorf("an engine shows %v, want both entries", all)
		}
	}
}

func TestConnectRefused(t *testing.T) {
	_, host := connected(t, Config{})
	quiet := slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		remote Remote
		want   string
	}{
		"wrong token": {Remote{URL: host.URL(), Token: "wrong"}, "refuses the cluster token"},
		"no token":    {Remote{URL: host.URL()}, "refuses the cluster token"},
		"nobody":      {Remote{URL: "nats://127.0.0.1:1", Token: token}, "no engine answers at nats://127.0.0.1:1"},
		"TLS wanted":  {Remote{URL: host.URL(), Token: token, TLS: &tls.Config{}}, "no engine answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.remote.Logger = quiet
			began := time.Now()
			e, err := Connect(context.Background(), c.remote)
			if err == nil {
				_ = e.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), token) {
				t.Errorf("Connect gives %v, want %q in it and no token", err, c.want)
			}
			if took := time.Since(began); took > connectWithin+patience {
				t.Errorf("it took %v", took)
			}
		})
	}
	if _, err := Open(t.Context(), Config{Dir: t.TempDir(), Logger: quiet, Listen: "127.0.0.1:0"}); err == nil {
		t.Error("an engine listens without a token")
	}
	taken := strings.TrimPrefix(host.URL(), "nats://")
	if _, err := Open(t.Context(), Config{Dir: t.TempDir(), Logger: quiet, Listen: taken, Token: token}); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("listening on a taken address gives %v", err)
	}
}

// TestConnectedFull: the host's disk is what limits, also for those who write from elsewhere.
func TestConnectedFull(t *testing.T) {
	remote, _ := connected(t, Config{MinFree: math.MaxInt64})
	if _, err := remote.Catalog().Apply(t.Context(), store.Create("a", []byte("1"))); !errors.Is(err, store.ErrFull) {
		t.Errorf("Apply gives %v, want ErrFull", err)
	}
	if _, _, err := remote.Blobs().Put(t.Context(), strings.NewReader("blob")); !errors.Is(err, store.ErrFull) {
		t.Errorf("Put gives %v, want ErrFull", err)
	}
}

// TestEngineRestarts: who is connected finds the engine again, with all that was written.
func TestEngineRestarts(t *testing.T) {
	config := Config{Dir: t.TempDir()}
	remote, host := connected(t, config)
	apply(t, remote, store.Create("a", []byte("1")))
	at := strings.TrimPrefix(host.URL(), "nats://")
	if err := host.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Dir: config.Dir, Listen: at, Token: token})
	apply(t, remote, store.Create("b", []byte("2")))
	if all := everything(t, remote); len(all) != 2 {
		t.Errorf("after the restart: %v", all)
	}
}
