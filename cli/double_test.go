package cli

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"berth/clientfile"
)

// double is as much of a Lambda server as the commands need. Each function becomes ready at the second look.
type double struct {
	mu        sync.Mutex
	functions map[string]map[string]any
	requests  []string // "POST /2015-03-31/functions"
	reason    string   // why functions fail; "" when they do not
	invoke    http.HandlerFunc
	logs      http.HandlerFunc
	own       http.HandlerFunc // of events and schedules
}

// newDouble starts a double and returns it with a data directory that points to it.
func newDouble(t *testing.T) (d *double, dataDir string) {
	d = &double{functions: map[string]map[string]any{}}
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	dataDir = t.TempDir()
	file := clientfile.File{
		Endpoint: server.URL, AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "it's/secret+", Account: "000000000001",
		Region: "us-east-1", Runtimes: []string{"python3.9", "python3.12", "nodejs20.x", "nodejs22.x", "provided.al2023"},
	}
	if err := clientfile.Save(dataDir, file); err != nil {
		t.Fatal(err)
	}
	return d, dataDir
}

func (d *double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests = append(d.requests, r.Method+" "+r.URL.Path)
	name, action, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/2015-03-31/functions"), "/"), "/")
	f := d.functions[name]
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		d.logs(w, r)
	case strings.HasPrefix(r.URL.Path, "/berth/v1/events/"), strings.HasPrefix(r.URL.Path, "/berth/v1/schedules"):
		d.own(w, r)
	case r.URL.Path == "/berth/v1/account":
		answer := map[string]any{"account": "000000000001", "concurrency": 1000, "reserved": 10, "provisioned": 5, "unreserved": 985}
		if r.Method == http.MethodPut {
			d.merge(answer, r)
		}
		json.NewEncoder(w).Encode(answer)
	case r.Method == http.MethodPost && name == "":
		d.create(w, r)
	case r.Method == http.MethodGet && name == "":
		list := []map[string]any{}
		for _, f := range d.functions {
			list = append(list, f)
		}
		json.NewEncoder(w).Encode(map[string]any{"Functions": list})
	case f == nil:
		w.Header().Set("X-Amzn-Errortype", "ResourceNotFoundException")
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"Type":"User","Message":"Function not found: arn:aws:lambda:us-east-1:000000000001:function:`+name+`"}`)
	case action == "invocations":
		d.invoke(w, r)
	case r.Method == http.MethodDelete:
		delete(d.functions, name)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPut:
		d.update(w, r, f)
	default:
		json.NewEncoder(w).Encode(f)
		d.settle(f)
	}
}

func (d *double) create(w http.ResponseWriter, r *http.Request) {
	f := map[string]any{"State": "Pending", "StateReason": "The function is being created.", "MemorySize": 128, "Timeout": 3}
	d.merge(f, r)
	name := f["FunctionName"].(string)
	f["FunctionArn"] = "arn:aws:lambda:us-east-1:000000000001:function:" + name
	d.functions[name] = f
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(f)
}

func (d *double) update(w http.ResponseWriter, r *http.Request, f map[string]any) {
	d.merge(f, r)
	f["LastUpdateStatus"] = "InProgress"
	json.NewEncoder(w).Encode(f)
}

// merge takes the members of a request into a function; code becomes its digest and size.
func (d *double) merge(f map[string]any, r *http.Request) {
	var in map[string]any
	json.NewDecoder(r.Body).Decode(&in)
	zip := in["ZipFile"]
	if code, ok := in["Code"].(map[string]any); ok {
		zip = code["ZipFile"]
	}
	if text, ok := zip.(string); ok {
		bytes, _ := base64.StdEncoding.DecodeString(text)
		sum := sha256.Sum256(bytes)
		f["CodeSha256"], f["CodeSize"] = base64.StdEncoding.EncodeToString(sum[:]), len(bytes)
	}
	delete(in, "Code")
	delete(in, "ZipFile")
	for key, value := range in {
		f[key] = value
	}
}

func (d *double) settle(f map[string]any) {
	f["State"], f["LastUpdateStatus"] = "Active", "Successful"
	delete(f, "StateReason")
	if d.reason != "" {
		f["State"], f["StateReason"] = "Failed", d.reason
	}
}

// count returns how many requests had a method and a path.
func (d *double) count(request string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, r := range d.requests {
		if strings.HasPrefix(r, request) {
			n++
		}
	}
	return n
}

// result is what a command printed, and its exit code.
type result struct {
	out, err string
	code     int
}

// command runs a command as main does. The environment is empty unless given.
func command(t *testing.T, env map[string]string, stdin string, args ...string) result {
	t.Helper()
	var out, errs strings.Builder
	code := Run(t.Context(), Config{
		Args: args, Getenv: func(name string) string { return env[name] },
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
	})
	return result{out.String(), errs.String(), code}
}

// want fails the test unless the command ended with the code and printed the texts.
func (r result) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) {
		t.Errorf("exit code %d, want %d\noutput %q, want %q in it\nerrors %q, want %q in it", r.code, code, r.out, out, r.err, err)
	}
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
