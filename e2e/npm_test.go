package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// npmWithin bounds the download of the packages; offline it fails much earlier.
const npmWithin = 3 * time.Minute

// packages returns a folder with the packages of testdata/NAME in node_modules: what `make npm` has installed, or else what
// npm installs now. It skips the test, with one line, where npm or its registry cannot be reached.
func packages(t *testing.T, name string) string {
	t.Helper()
	made := filepath.Join("..", "bin", "npm", name)
	if lockedSame(filepath.Join("testdata", name), made) {
		return made
	}
	path, err := exec.LookPath("npm")
	if err != nil {
		t.Skip("npm is not installed: what functions use of it cannot be tried")
	}
	dir := t.TempDir()
	for _, file := range []string{"package.json", "package-lock.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), npmWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		_, why, _ := strings.Cut(string(out), "npm error ") // before it are warnings
		why, _, _ = strings.Cut(why, "\n")
		t.Skipf("npm cannot install the packages here (%v): %s", err, why)
	}
	return dir
}

// lockedSame reports whether made holds what the lock file beside a test names now.
func lockedSame(tested, made string) bool {
	want, err := os.ReadFile(filepath.Join(tested, "package-lock.json"))
	if err != nil {
		return false
	}
	got, err := os.ReadFile(filepath.Join(made, "package-lock.json"))
	_, missing := os.Stat(filepath.Join(made, "node_modules"))
	return err == nil && missing == nil && bytes.Equal(got, want)
}

// packed zips files and whole folders of node_modules.
func packed(t *testing.T, testdata, installed string, only func(path string) bool) []byte {
	t.Helper()
	var content []string
	add := func(root, keep string) {
		err := filepath.WalkDir(filepath.Join(root, keep), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil || !only(name) {
				return err
			}
			text, err := os.ReadFile(path)
			content = append(content, name, string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	add(testdata, ".")
	add(installed, "node_modules")
	return zipOf(t, content...)
}

// withoutMaps leaves out what only debuggers and compilers read, as every bundler does.
func withoutMaps(path string) bool {
	return !strings.HasSuffix(path, ".map") && !strings.HasSuffix(path, ".d.ts") && !strings.HasSuffix(path, ".md")
}

// TestNPM runs functions that use popular packages, unmodified, as npm installs them.
func TestNPM(t *testing.T) {
	c := sharedClient(t)
	runtime := nodeRuntime(t)
	code := packed(t, "testdata/npm", packages(t, "npm"), withoutMaps)
	deploy := func(t *testing.T, file string) string {
		name := "npm-" + file
		create(t, c, &lambda.CreateFunctionInput{FunctionName: &name, Runtime: types.Runtime(runtime), Handler: aws.String(file + ".handler"),
			Timeout: aws.Int32(60), MemorySize: aws.Int32(512), Code: &types.FunctionCode{ZipFile: code}})
		return name
	}
	t.Run("middy", func(t *testing.T) {
		name := deploy(t, "middleware")
		got := call(t, c, name, "", `{"name":"x"}`)
		want := map[string]any{"name": "x", "began": true, "function": name, "left": true, "phases": []any{"before", "after"}}
		if !same(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := call(t, c, name, "", `{"fail":true}`); !same(got, map[string]any{"caught": "on purpose"}) {
			t.Errorf("an error that a middleware answers: %v", got)
		}
	})
	t.Run("serverless-http", func(t *testing.T) { npmSite(t, c, deploy(t, "site")) })
	t.Run("powertools", func(t *testing.T) { npmObserved(t, c, deploy(t, "observed")) })
}

func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// npmSite calls an Express application through its function URL.
func npmSite(t *testing.T, c *client.Client, name string) {
	host := publicURL(t, c, name, types.InvokeModeBuffered)
	get := func(path string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, shared.Client.Endpoint+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res, string(body)
	}
	if res, body := get("/items/7?a=1"); res.StatusCode != 200 || res.Header.Get("X-Item") != "7" || body != `{"id":"7","query":{"a":"1"}}` {
		t.Errorf("%d %v %s", res.StatusCode, res.Header, body)
	}
	if res, body := get("/picture"); res.Header.Get("Content-Type") != "image/png" || body != "\x89PNG\x00\xff" {
		t.Errorf("a picture: %v %q", res.Header, body)
	}
	if res, body := get("/none"); res.StatusCode != 404 || body != "no such page" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

// npmObserved looks for what Powertools writes: log lines and metrics as JSON.
func npmObserved(t *testing.T, c *client.Client, name string) {
	out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{"order":12}`), LogType: types.LogTypeTail})
	if out.FunctionError != nil {
		t.Fatalf("%s\n%s", out.Payload, tail(t, out))
	}
	log := tail(t, out)
	var order, metric, cold bool
	for _, line := range strings.Split(log, "\n") {
		i := strings.Index(line, "{")
		var entry map[string]any
		if i < 0 || json.Unmarshal([]byte(line[i:]), &entry) != nil {
			continue
		}
		order = order || entry["message"] == "an order" && entry["order"] == 12.0 && entry["function_name"] == name && entry["cold_start"] == true &&
			entry["service"] == "orders" && len(entry["function_request_id"].(string)) == 36
		metric = metric || entry["_aws"] != nil && entry["orders"] == 1.0
		cold = cold || entry["_aws"] != nil && entry["ColdStart"] == 1.0
	}
	if !order || !metric || !cold {
		t.Errorf("a log line %v, a metric %v, the cold start %v in\n%s", order, metric, cold, log)
	}
}
