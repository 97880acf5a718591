package cli

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"berth/apiserver"
	"berth/auth"
	"berth/catalog"
	"berth/clientfile"
	"berth/code"
	"berth/lambda"
	"berth/store/memory"
)

// nothing stands where functions would run.
type nothing struct{}

func (nothing) Invoke(context.Context, lambda.Ref, *lambda.Invocation) (*lambda.Outcome, error) {
	return &lambda.Outcome{Payload: []byte("1"), Version: lambda.Latest}, nil
}
func (nothing) Prepare(context.Context, *lambda.Version) error { return nil }

// lockedLog is a log that a server writes while a test reads it.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// realServer serves the API from memory, and returns a data directory that points to it, and its log.
func realServer(t *testing.T) (data string, file clientfile.File, log *lockedLog) {
	t.Helper()
	const region = "us-east-1"
	cat := catalog.New(memory.NewCatalog(), region)
	log = new(lockedLog)
	server, err := apiserver.New(apiserver.Config{
		Catalog: cat, Blobs: memory.NewBlobs(), Invoker: nothing{}, Preparer: nothing{}, Inspect: code.Inspect,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Authenticate: func(r *http.Request, body []byte) (lambda.Caller, error) {
			who, err := auth.NewVerifier(auth.Config{Keys: cat, Region: region}).Verify(r, body)
			return who.Caller, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = cat.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	<-cat.Ready()
	key, _, err := cat.FirstKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(server)
	t.Cleanup(front.Close)
	data = t.TempDir()
	file = clientfile.File{Endpoint: front.URL, AccessKeyID: key.ID, SecretAccessKey: key.Secret, Account: key.Account, Region: region}
	if err := clientfile.Save(data, file); err != nil {
		t.Fatal(err)
	}
	return data, file, log
}

// signedBy is the environment of somebody who has a key.
func signedBy(t *testing.T, file clientfile.File, made string) map[string]string {
	t.Helper()
	var key struct{ AccessKeyID, SecretAccessKey string }
	if err := json.Unmarshal([]byte(made), &key); err != nil || key.SecretAccessKey == "" {
		t.Fatalf("no key in %q: %v", made, err)
	}
	return map[string]string{envLambda: file.Endpoint, envKey: key.AccessKeyID, envSecret: key.SecretAccessKey, envRegion: file.Region}
}

func TestKeysAndAccounts(t *testing.T) {
	data, file, log := realServer(t)
	run := func(args ...string) result { t.Helper(); return command(t, nil, "", append(args, "--data", data)...) }
	policy := write(t, filepath.Join(t.TempDir(), "p.json"),
		`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["lambda:ListFunctions", "berth:ListKeys"], "Resource": "*"}]}`)

	run("account", "create", "000000000002").want(t, 0, "000000000002", "")
	run("account", "create", "000000000002").want(t, 1, "", "exists already")
	run("account", "create", "12").want(t, 1, "", "has 12 digits")
	run("account", "create", "--json").want(t, 0, `"account":"`, "")
	run("account", "list").want(t, 0, "ACCOUNT       FUNCTIONS  KEYS  CONCURRENCY\n000000000001  0          1     1000\n000000000002  0          0     1000", "")

	made := run("key", "create", "--user", "ann", "--policy", policy)
	made.want(t, 0, "arn:aws:iam::000000000001:user/ann", "not shown again")
	run("key", "list").want(t, 0, "by policy", "")
	made = run("key", "create", "--user", "ann", "--policy", policy, "--json")
	ann := signedBy(t, file, made.out)
	shown := run("key", "show", ann[envKey])
	shown.want(t, 0, `"berth:ListKeys"`, "")
	for _, text := range []string{shown.out, run("key", "list", "--json").out, log.String()} {
		if strings.Contains(text, ann[envSecret]) {
			t.Errorf("the secret is shown again: %s", text)
		}
	}

	// The key does what its policy says, and nothing else.
	command(t, ann, "", "list").want(t, 0, "no functions", "")
	command(t, ann, "", "key", "list").want(t, 0, ann[envKey], "")
	command(t, ann, "", "key", "create").want(t, 1, "", "not authorized to perform: berth:CreateKey on resource: arn:aws:berth:us-east-1:000000000001:root because no identity-based policy")
	command(t, ann, "", "key", "delete", ann[envKey]).want(t, 1, "", "berth:DeleteKey")
	command(t, ann, "", "key", "show", ann[envKey]).want(t, 1, "", "berth:GetKey")
	command(t, ann, "", "account", "show").want(t, 1, "", "berth:GetAccount")
	command(t, ann, "", "account", "set", "--concurrency", "500").want(t, 1, "", "berth:PutAccount")
	command(t, ann, "", "account", "create").want(t, 1, "", "berth:CreateAccount")
	command(t, ann, "", "account", "list").want(t, 1, "", "berth:ListAccounts")
	command(t, ann, "", "account", "delete", "000000000002").want(t, 1, "", "berth:DeleteAccount")
	command(t, ann, "", "invoke", "none").want(t, 1, "", "lambda:InvokeFunction")

	// Another account manages its own keys and nobody else's.
	other := signedBy(t, file, run("key", "create", "--account", "000000000002", "--json").out)
	command(t, other, "", "key", "create", "--user", "bob").want(t, 0, "arn:aws:iam::000000000002:user/bob", "")
	command(t, other, "", "key", "create", "--account", "000000000001").want(t, 1, "", "AccessDenied")
	command(t, other, "", "key", "list", "--account", "000000000001").want(t, 1, "", "AccessDenied")
	command(t, other, "", "key", "show", ann[envKey]).want(t, 1, "", "There is no access key")
	command(t, other, "", "key", "delete", file.AccessKeyID).want(t, 1, "", "There is no access key")
	command(t, other, "", "account", "list").want(t, 1, "", "managed with keys of account 000000000001")

	// What is wrong is said.
	run("key", "create", "--user", "a/b").want(t, 1, "", "name of a user")
	run("key", "create", "--account", "000000000009").want(t, 1, "", "There is no account")
	run("key", "create", "--policy", write(t, filepath.Join(t.TempDir(), "p"), "{")).want(t, 1, "", "one JSON document")
	run("key", "create", "--policy", filepath.Join(t.TempDir(), "none")).want(t, 1, "", "reading the policy")
	command(t, nil, `{"Statement":{"Effect":"Allow","Action":"x","Resource":"*"}}`, "key", "create", "--policy", "-", "--data", data).
		want(t, 1, "", "MalformedPolicyDocumentException: statement 1: Action: \"x\": Actions must be prefaced by a vendor")
	run("key", "delete", file.AccessKeyID).want(t, 1, "", "the last that may do everything")
	run("account", "delete", "000000000001").want(t, 1, "", "stays")

	// What is deleted opens nothing.
	run("key", "delete", ann[envKey]).want(t, 0, "", "")
	command(t, ann, "", "list").want(t, 1, "", "does not accept this access key")
	run("account", "delete", "000000000002").want(t, 0, "", "")
	command(t, other, "", "list").want(t, 1, "", "does not accept this access key")
	run("account", "delete", "000000000002").want(t, 1, "", "There is no account")
	if strings.Contains(log.String(), file.SecretAccessKey) || strings.Contains(log.String(), other[envSecret]) {
		t.Error("a secret is in the log")
	}
}
