package e2e

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// source is a function that can be deployed: its language, and its code for an answer that names the revision.
type source struct {
	language string
	runtime  func(t testing.TB) string
	handler  string
	zip      func(t *testing.T, answer string) []byte
}

// sources are the three languages, each with a function that answers {"answer": answer, "event": event}.
var sources = []source{
	{"Python", pythonRuntime, "app.handler", func(t *testing.T, answer string) []byte {
		return zipOf(t, "app.py", "def handler(event, context):\n    return {'answer': '"+answer+"', 'event': event}\n")
	}},
	{"Node", nodeRuntime, "app.handler", func(t *testing.T, answer string) []byte {
		return zipOf(t, "app.js", "exports.handler = async (event) => ({answer: '"+answer+"', event});\n")
	}},
	{"Go", func(testing.TB) string { return "provided.al2023" }, "bootstrap", goZip},
}

// zipOf packs names and contents, in turns.
func zipOf(t testing.TB, namesAndContents ...string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	w := zip.NewWriter(&buffer)
	for i := 0; i < len(namesAndContents); i += 2 {
		header := &zip.FileHeader{Name: namesAndContents[i], Method: zip.Deflate}
		header.SetMode(0o755)
		file, err := w.CreateHeader(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write([]byte(namesAndContents[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// goProgram is built once; the answer is looked up in a file beside it, so that each revision needs no build.
var goProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "berth-e2e-go-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "bootstrap")
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", program, "berth/e2e/testdata/echo")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return string(out), err
	}
	content, err := os.ReadFile(program)
	return string(content), err
})

func goZip(t *testing.T, answer string) []byte {
	program, err := goProgram()
	if err != nil {
		t.Fatalf("building the Go function: %v\n%s", err, program)
	}
	return zipOf(t, "bootstrap", program, "answer.txt", answer)
}

// runtimes are those that the server says it can run.
func serverRuntimes(t testing.TB) []string {
	sharedClient(t)
	return shared.Client.Runtimes
}

func pythonRuntime(t testing.TB) string { return newest(t, "python3.", "") }
func nodeRuntime(t testing.TB) string   { return newest(t, "nodejs", ".x") }

func newest(t testing.TB, prefix, suffix string) string {
	t.Helper()
	var found []string
	for _, name := range serverRuntimes(t) {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		t.Skipf("the server has no %s runtime: its interpreter is not installed here", strings.TrimRight(prefix, ".3"))
	}
	slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) + strings.Compare(a, b) })
	return found[len(found)-1]
}
