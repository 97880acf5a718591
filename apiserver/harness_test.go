package apiserver_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"berth/apiserver"
	"berth/auth"
	"berth/catalog"
	"berth/code"
	"berth/lambda"
	"berth/store/memory"
)

const (
	region = "us-east-1"
	role   = "arn:aws:iam::000000000001:role/test"
	prefix = "arn:aws:lambda:us-east-1:000000000001:function:"
)

// stub stands in for the data path: invoke and prepare decide; nil means "echo" and "ready".
type stub struct {
	mu      sync.Mutex
	catalog *catalog.Catalog
	invoke  func(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error)
	prepare func(ctx context.Context, v *lambda.Version) error
	// eventError refuses events.
	eventError error
}

func (s *stub) set(f func(*stub)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *stub) Invoke(ctx context.Context, ref lambda.Ref, in *lambda.Invocation) (*lambda.Outcome, error) {
	s.mu.Lock()
	f := s.invoke
	s.mu.Unlock()
	if f != nil {
		return f(ctx, ref, in)
	}
	target, err := s.catalog.Resolve(ref)
	if err != nil {
		return nil, err
	}
	return &lambda.Outcome{Payload: in.Payload, Version: target.Version.Number, Log: []byte("the log")}, nil
}

func (s *stub) Prepare(ctx context.Context, v *lambda.Version) error {
	s.mu.Lock()
	f := s.prepare
	s.mu.Unlock()
	if f != nil {
		return f(ctx, v)
	}
	return nil
}

// fixture is a running server.
type fixture struct {
	*stub
	URL    string
	key    lambda.AccessKey
	client *sdk.Client
	logs   *lockedBuffer
	server *apiserver.Server
	stop   func()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a server over new stores.
func start(t testing.TB) *fixture {
	t.Helper()
	return startOver(t, memory.NewCatalog(), memory.NewBlobs(), &stub{})
}

func startOver(t testing.TB, entries *memory.Catalog, blobs *memory.Blobs, s *stub) *fixture {
	t.Helper()
	f := &fixture{stub: s, logs: new(lockedBuffer)}
	cat := catalog.New(entries, region)
	s.catalog = cat
	verifier := auth.NewVerifier(auth.Config{Keys: cat, Region: region})
	server, err := apiserver.New(apiserver.Config{
		Catalog: cat, Blobs: blobs, Invoker: s, Preparer: s, Inspect: code.Inspect,
		Authenticate: func(r *http.Request, body []byte) (lambda.Caller, error) {
			who, err := verifier.Verify(r, body)
			return who.Caller, err
		},
		Events:   &inbox{s},
		Runtimes: installed{}, Images: pictures{},
		Log: slog.New(slog.NewTextHandler(f.logs, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = cat.Run(ctx) })
	<-cat.Ready()
	if f.key, _, err = cat.FirstKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	serving, stopServing := context.WithCancel(context.Background())
	var server1 sync.WaitGroup
	server1.Go(func() { _ = server.Run(serving) })
	front := httptest.NewServer(server)
	f.stop = sync.OnceFunc(func() {
		front.Close()
		stopServing()
		server1.Wait()
		cancel()
		running.Wait()
	})
	t.Cleanup(f.stop)
	f.URL, f.server = front.URL, server
	f.client = sdk.New(sdk.Options{
		Region: region, BaseEndpoint: &f.URL, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: f.key.ID, SecretAccessKey: f.key.Secret}, nil
		}),
	})
	return f
}

// zipOf returns a zip with one file.
func zipOf(t testing.TB, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	file, err := w.Create("h.py")
	if err == nil {
		_, err = io.WriteString(file, content)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func input(t testing.TB, name string) *sdk.CreateFunctionInput {
	return &sdk.CreateFunctionInput{
		FunctionName: &name, Role: aws.String(role), Runtime: types.RuntimePython312, Handler: aws.String("h.handler"),
		Code: &types.FunctionCode{ZipFile: zipOf(t, "v1")},
	}
}

// create makes a function and waits until it is Active.
func (f *fixture) create(t testing.TB, name string) {
	t.Helper()
	if _, err := f.client.CreateFunction(t.Context(), input(t, name)); err != nil {
		t.Fatal(err)
	}
	f.waitActive(t, name)
}

func (f *fixture) waitActive(t testing.TB, name string) {
	t.Helper()
	w := sdk.NewFunctionActiveV2Waiter(f.client, func(o *sdk.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	})
	if err := w.Wait(t.Context(), &sdk.GetFunctionInput{FunctionName: &name}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) waitUpdated(t testing.TB, name string) {
	t.Helper()
	w := sdk.NewFunctionUpdatedV2Waiter(f.client, func(o *sdk.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	})
	if err := w.Wait(t.Context(), &sdk.GetFunctionInput{FunctionName: &name}, 10*time.Second); err != nil {
		t.Fatal(err)
	}
}

// wantCode fails unless err is an answer with this error type and a message that contains text.
func wantCode(t testing.TB, err error, code lambda.Code, text string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != string(code) || !strings.Contains(e.ErrorMessage(), text) {
		t.Fatalf("got %v, want %s with %q", err, code, text)
	}
}
