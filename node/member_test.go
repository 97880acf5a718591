package node

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/internal/testcert"
	"berth/lambda"
	"berth/members"
)

func TestParseRoles(t *testing.T) {
	const engine = "nats://127.0.0.1:4222"
	for _, c := range []struct {
		names  []string
		engine string
		want   Roles
		err    string
	}{
		{nil, "", Roles{true, true, true, true, true}, ""},
		{nil, engine, Roles{true, true, true, false, true}, ""},
		{[]string{"manager", "worker"}, engine, Roles{Manager: true, Worker: true}, ""},
		{[]string{"engine"}, engine, Roles{Engine: true}, ""},
		{[]string{"engine", "worker", "manager", "frontend", "control"}, "", Roles{true, true, true, true, true}, ""},
		{[]string{"manager"}, "", Roles{}, "say where one is with --engine"},
		{[]string{"engine"}, "", Roles{}, "say where it listens with --engine"},
		{[]string{"Manager"}, engine, Roles{}, `"Manager" is not known`},
		{[]string{""}, engine, Roles{}, "the roles are frontend, manager, worker, engine, control"},
	} {
		got, err := ParseRoles(c.names, c.engine)
		switch {
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("ParseRoles(%q, %q) = %+v, %v", c.names, c.engine, got, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("ParseRoles(%q, %q) gives %v, want %q in it", c.names, c.engine, err, c.err)
		}
	}
}

func TestTheEnginesHostMakesTheToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if _, err := clusterToken(path, false); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("without the file: %v", err)
	}
	made, err := clusterToken(path, true)
	if err != nil || len(made) != 64 {
		t.Fatalf("clusterToken = %d characters, %v", len(made), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	for _, host := range []bool{true, false} {
		if again, err := clusterToken(path, host); again != made || err != nil {
			t.Errorf("read again it differs, %v", err)
		}
	}
}

func TestBadTokens(t *testing.T) {
	for content, want := range map[string]string{
		"":                         "16 to 1024",
		"short":                    "16 to 1024",
		strings.Repeat("x", 1025):  "16 to 1024",
		"two words of some length": "visible ASCII",
		strings.Repeat("ü", 20):    "visible ASCII",
	} {
		path := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := clusterToken(path, true)
		if err == nil || !strings.Contains(err.Error(), want) || content != "" && strings.Contains(err.Error(), content) {
			t.Errorf("%q gives %v, want %q in it and no content", content, err, want)
		}
	}
}

func TestTLSFiles(t *testing.T) {
	if c, err := (TLSFiles{}).config(); c != nil || err != nil {
		t.Errorf("no files: %v, %v", c, err)
	}
	good := testcert.Write(t, t.TempDir())
	if c, err := (TLSFiles(good)).config(); err != nil || len(c.Certificates) != 1 || c.ClientCAs == nil {
		t.Errorf("good files: %v", err)
	}
	for want, files := range map[string]TLSFiles{
		"--tls-key":               {Cert: good.Cert, CA: good.CA},
		"certificate for other":   {Cert: good.Cert, Key: good.CA, CA: good.CA},
		"no certificate in PEM":   {Cert: good.Cert, Key: good.Key, CA: good.Key},
		"no such file or directo": {Cert: good.Cert, Key: good.Key, CA: good.CA + "x"},
	} {
		if _, err := files.config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

func TestInternalAddresses(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1", ":0", "0.0.0.0:0", "[::]:0"} {
		if l, err := listenInternal(bad); err == nil {
			l.Close()
			t.Errorf("%q is taken: others could not reach it", bad)
		}
	}
	l, err := listenInternal("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func tracked(m members.Member) *members.Tracked { return &members.Tracked{Member: m} }

// TestOneRuntimeVersionIsUsed: where workers differ, all frontends choose the same version, and only its workers run it.
func TestOneRuntimeVersionIsUsed(t *testing.T) {
	workers := []*members.Tracked{
		tracked(members.Member{ID: "a", Runtimes: map[string]lambda.RuntimeVersionID{"nodejs20.x": "n1"}}),
		tracked(members.Member{ID: "b", Runtimes: map[string]lambda.RuntimeVersionID{"python3.11": "p1"}}),
		tracked(members.Member{ID: "c", Runtimes: map[string]lambda.RuntimeVersionID{"python3.11": "p2", "nodejs20.x": "n1"}}),
	}
	for name, want := range map[string]lambda.RuntimeVersionID{"python3.11": "p1", "nodejs20.x": "n1", "ruby3.4": ""} {
		if got, ok := runtimeOf(workers, name); got != want || ok != (want != "") {
			t.Errorf("runtimeOf(%s) = %q, %v, want %q", name, got, ok, want)
		}
	}
	workers[0].Draining, workers[1].Draining = true, true
	if got, _ := runtimeOf(workers, "python3.11"); got != "p2" {
		t.Errorf("while b drains the version is %q, want that of c, which stays", got)
	}
	workers[2].Draining = true
	if got, _ := runtimeOf(workers, "python3.11"); got != "p1" {
		t.Errorf("while all drain the version is %q, want that of b", got)
	}
	if got := namesOf(&members.View{Workers: workers}); !slices.Equal(got, []string{"nodejs20.x", "python3.11"}) {
		t.Errorf("names are %v", got)
	}
}
