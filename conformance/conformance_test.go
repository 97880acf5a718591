package conformance

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"berth/apiserver"
	"berth/catalog"
	"berth/code"
	"berth/image"
	"berth/lambda"
	"berth/store/memory"
)

const account = "000000000042"

// prepareTime is how long the double takes to make a version ready: long enough for a scenario to see it InProgress.
const prepareTime = 100 * time.Millisecond

// preparer is a double: it makes every version ready after prepareTime.
type preparer struct{}

func (preparer) Prepare(ctx context.Context, _ *lambda.Version) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(prepareTime):
		return nil
	}
}

// installed is a double: workers that have every runtime.
type installed struct{}

func (installed) Names() []string { return nil }

func (installed) Installed(runtime string) (lambda.RuntimeVersionID, bool) {
	return lambda.RuntimeVersionID(fmt.Sprintf("%x", sha256.Sum256([]byte(runtime)))), true
}

// pictures finds images really; nothing is fetched.
type pictures struct{}

func (pictures) Resolve(ctx context.Context, ref, architecture string) (apiserver.ResolvedImage, error) {
	img, err := image.New(image.Config{}).Open(ctx, ref, architecture)
	if err != nil {
		return apiserver.ResolvedImage{}, err
	}
	defer img.Close()
	return apiserver.ResolvedImage{Reference: img.Resolved, Digest: img.Digest}, nil
}

func (pictures) Release(context.Context, string, string) (lambda.RuntimeRelease, error) {
	return lambda.RuntimeRelease{}, errors.New("not part of the API")
}

// invoker is a double that resolves and runs nothing.
type invoker struct{ catalog *catalog.Catalog }

func (i invoker) Invoke(_ context.Context, ref lambda.Ref, _ *lambda.Invocation) (*lambda.Outcome, error) {
	t, err := i.catalog.Resolve(ref)
	if err != nil {
		return nil, err
	}
	return &lambda.Outcome{Payload: []byte("null"), Class: lambda.OK, Version: t.Version.Number}, nil
}

// inProcess serves the API from memory, with doubles where code would run.
func inProcess(t *testing.T) Target {
	t.Helper()
	c := catalog.New(memory.NewCatalog(), region)
	s, err := apiserver.New(apiserver.Config{
		Catalog: c, Blobs: memory.NewBlobs(), Invoker: invoker{c}, Preparer: preparer{},
		Authenticate: func(*http.Request, []byte) (lambda.Caller, error) { return lambda.Caller{Account: account}, nil },
		Inspect:      code.Inspect, Log: slog.New(slog.DiscardHandler),
		Runtimes: installed{}, Images: pictures{}, Queue: func(context.Context, string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	<-c.Ready()
	running.Go(func() { _ = s.Run(ctx) })
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.Close()
		cancel()
		running.Wait()
	})
	return Target{URL: server.URL, Account: account}
}

// TestRecordings replays against the API server alone. The scenarios that run code need a whole server: e2e replays them.
func TestRecordings(t *testing.T) { Run(t, inProcess(t)) }
