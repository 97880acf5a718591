package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/admin"
	"berth/clientfile"
)

// operated answers as a cluster's frontend does, and returns a data directory that points to it and what was asked.
func operated(t *testing.T) (dataDir string, asked *[]string) {
	asked = new([]string)
	ring := admin.Ring{Version: 7, Members: []string{"m1", "m2"}, Quota: 40, State: "current", Reason: "joined: m2", Pinned: true}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*asked = append(*asked, r.Method+" "+r.URL.Path+" "+string(body))
		switch {
		case strings.Contains(string(body), "nobody"):
			w.Header().Set("X-Amzn-Errortype", "InvalidParameterValueException")
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"Message":"None of these managers lives: nobody."}`)
		case r.URL.Path == admin.ClusterPath:
			json.NewEncoder(w).Encode(admin.Status{
				Ring: ring, Earlier: 2, Silent: 1,
				Processes: []admin.Process{
					{ID: "c1", Roles: []string{"control"}, Elected: true},
					{ID: "m1", Roles: []string{"manager"}, Address: "10.0.0.1:7001", Draining: true, Manager: &admin.Manager{Environments: 5, Idle: 3}},
					{ID: "w1", Roles: []string{"worker"}, Worker: &admin.Worker{Environments: map[string]int{"idle": 3, "running": 2}, MemoryUsed: 640 << 20, MemoryLimit: 2048 << 20}},
				},
				Pools: []admin.Pool{{Account: "000000000001", Function: "f", Limit: 50, Running: 2, Managers: map[string]int{"m2": 1, "m1": 1}}},
			})
		case r.Method == http.MethodGet:
			json.NewEncoder(w).Encode(admin.Rings{Rings: []admin.Ring{ring, {Version: 6, State: "superseded", Quota: 10, Members: []string{"m1"}, Reason: "lost: m3"}}})
		default:
			json.NewEncoder(w).Encode(ring)
		}
	}))
	t.Cleanup(server.Close)
	dataDir = t.TempDir()
	if err := clientfile.Save(dataDir, clientfile.File{Endpoint: server.URL, AccessKeyID: "A", SecretAccessKey: "S", Region: "us-east-1"}); err != nil {
		t.Fatal(err)
	}
	return dataDir, asked
}

func TestRingCommands(t *testing.T) {
	data, asked := operated(t)
	command(t, nil, "", "ring", "show", "--data", data).want(t, 0, "m1,m2 (pinned)", "")
	command(t, nil, "", "ring", "history", "--data", data).want(t, 0, "lost: m3", "")
	command(t, nil, "", "ring", "deploy", "--q", "40", "--managers", "m1,m2", "--data", data, "--json").want(t, 0, `"version":7`, "")
	command(t, nil, "", "ring", "rollback", "--to", "6", "--data", data).want(t, 0, "7", "")
	want := []string{"GET /berth/v1/cluster ", "GET /berth/v1/rings ", `POST /berth/v1/rings {"managers":["m1","m2"],"q":40}`, `POST /berth/v1/rings/rollback {"to":6}`}
	if strings.Join(*asked, "\n") != strings.Join(want, "\n") {
		t.Errorf("asked %q, want %q", *asked, want)
	}
	command(t, nil, "", "ring", "deploy", "--managers", "nobody", "--data", data).want(t, 1, "", "None of these managers lives")
	command(t, nil, "", "ring", "deploy", "--q", "0", "--data", data).want(t, 2, "", "above 0")
}

func TestClusterStatus(t *testing.T) {
	data, _ := operated(t)
	r := command(t, nil, "", "cluster", "status", "--data", data)
	for _, want := range []string{"elected", "stopping; manages 5 environments, 3 idle", "5 environments, 640 of 2048 MB", "1 of them did not answer",
		"ring version 7, q 40", "2 earlier versions", "000000000001:f", "2 of 50", "m1 1, m2 1"} {
		r.want(t, 0, want, "")
	}
	command(t, nil, "", "cluster", "status", "--json", "--data", data).want(t, 0, `"earlier":2`, "")
	command(t, nil, "", "cluster", "up", "--data", data).want(t, 2, "", "--local N")
}

// TestExportLeavesNoHalfFile: a file is whole, for its owner only, or not there.
func TestExportLeavesNoHalfFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "functions.tar")
	run := func(failure error) (int, string) {
		var out, errs strings.Builder
		code := Run(t.Context(), Config{
			Args: []string{"cluster", "export", file, "--data", dir, "--engine", "nats://h:1"}, Getenv: func(string) string { return "" },
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
			Export: func(_ context.Context, o StoredOptions, w io.Writer) (Stored, error) {
				if o.Engine != "nats://h:1" || o.DataDir != dir || o.Log == nil {
					t.Errorf("options %+v", o)
				}
				io.WriteString(w, "content")
				return Stored{Records: 3, Blobs: 2}, failure
			},
		})
		return code, out.String() + errs.String()
	}
	if code, said := run(errors.New("the engine is gone")); code != 1 || !strings.Contains(said, "the engine is gone") {
		t.Errorf("%d %s", code, said)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("a failure leaves %v", left)
	}
	if code, said := run(nil); code != 0 || !strings.Contains(said, "exported 3 records and 2 files") {
		t.Errorf("%d %s", code, said)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 7 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestAClustersTokenStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	var before []byte
	for range 2 {
		if err := makeToken(path); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil || len(content) != 65 || before != nil && string(content) != string(before) {
			t.Errorf("%q, %v", content, err)
		}
		before = content
	}
}

// A directory of a cluster with one engine cannot be that of three: it is said at once, not after a minute of waiting.
func TestAClusterKeepsItsNumberOfEngines(t *testing.T) {
	for _, c := range []struct{ kept, n int }{{2, 3}, {6, 2}} {
		l := &localCluster{dir: t.TempDir(), n: c.n}
		if err := os.WriteFile(l.addressFile(c.kept), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := l.startEngines(t.Context()); err == nil || !strings.Contains(err.Error(), "take the same number again") {
			t.Errorf("%d addresses kept, --local %d: %v", c.kept, c.n, err)
		}
		if files, err := os.ReadDir(l.dir); err != nil || len(files) != 1 {
			t.Errorf("the directory was changed: %v, %v", files, err)
		}
	}
}

func TestTogetherWaitsForNoneWhenOneFails(t *testing.T) {
	failure := errors.New("cannot start")
	err := together(t.Context(), 3, func(ctx context.Context, i int) error {
		if i == 1 {
			return failure
		}
		<-ctx.Done() // as an engine that waits for the others
		return ctx.Err()
	})
	if err != failure {
		t.Errorf("got %v", err)
	}
	if err := together(t.Context(), 3, func(context.Context, int) error { return nil }); err != nil {
		t.Errorf("none failed: %v", err)
	}
}
