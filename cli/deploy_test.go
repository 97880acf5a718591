package cli

import (
	"archive/zip"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func files(namesAndContents ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(namesAndContents); i += 2 {
		fsys[namesAndContents[i]] = &fstest.MapFile{Data: []byte(namesAndContents[i+1]), Mode: 0o644}
	}
	return fsys
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   fstest.MapFS
		want    family
		handler string
		found   detected
		err     string
	}{
		{"python", files("lambda_function.py", "import x\ndef lambda_handler(event, context):\n  pass\n"), "", "", detected{python, "lambda_function.lambda_handler"}, ""},
		{"python, async", files("app.py", "async def handler(event, context): pass"), "", "", detected{python, "app.handler"}, ""},
		{"python, assigned", files("app.py", "handler = Mangum(app)\n"), "", "", detected{python, "app.handler"}, ""},
		{"python, usual name first", files("a.py", "def handler(e, c): pass", "main.py", "def handler(e, c): pass"), "", "", detected{python, "main.handler"}, ""},
		{"python, lambda_handler first", files("app.py", "def handler(e, c): pass", "z.py", "def lambda_handler(e, c): pass"), "", "", detected{python, "z.lambda_handler"}, ""},
		{"python, a method is none", files("app.py", "class X:\n    def handler(self): pass\n"), "", "", detected{}, "cannot tell"},
		{"python, named", files("app.py", "run = 1", "b.js", ""), python, "app.run", detected{python, "app.run"}, ""},
		{"handler named, runtime found", files("app.py", "run = 1"), "", "app.run", detected{python, "app.run"}, ""},
		{"node", files("index.js", "exports.handler = async () => 1"), "", "", detected{node, "index.handler"}, ""},
		{"node, module.exports", files("index.js", "module.exports.handler = f"), "", "", detected{node, "index.handler"}, ""},
		{"node, object", files("index.js", "module.exports = {\n  other,\n  handler,\n}"), "", "", detected{node, "index.handler"}, ""},
		{"node, module", files("index.mjs", "import x from 'y'\nexport const handler = async () => 1"), "", "", detected{node, "index.handler"}, ""},
		{"node, function", files("app.mjs", "export async function lambdaHandler() {}"), "", "", detected{node, "app.lambdaHandler"}, ""},
		{"node, export list", files("app.mjs", "export { other, handler };"), "", "", detected{node, "app.handler"}, ""},
		{"node beside a python tool", files("index.js", "exports.handler = f", "build.py", "def main(): pass"), "", "", detected{node, "index.handler"}, ""},
		{"both", files("index.js", "exports.handler = f", "app.py", "def handler(e, c): pass"), "", "", detected{}, "choose with --runtime"},
		{"both, chosen", files("index.js", "exports.handler = f", "app.py", "def handler(e, c): pass"), node, "", detected{node, "index.handler"}, ""},
		{"go", files("main.go", "package main"), "", "", detected{goSource, "bootstrap"}, ""},
		{"go, with an old build", files("main.go", "package main", "bootstrap", "ELF"), "", "", detected{goSource, "bootstrap"}, ""},
		{"bootstrap", files("bootstrap", "#!/bin/sh"), "", "", detected{binary, "bootstrap"}, ""},
		{"bootstrap, named", files("bootstrap", "#!/bin/sh"), binary, "main", detected{binary, "main"}, ""},
		{"nothing", files("README", ""), "", "", detected{}, "cannot tell"},
		{"no bootstrap", files("README", ""), binary, "", detected{}, "no executable called bootstrap"},
		{"not python", files("app.js", ""), python, "", detected{}, "no Python file"},
		{"not node", files("app.py", ""), node, "", detected{}, "no JavaScript file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, err := detect(c.files, c.want, c.handler)
			if found != c.found || (c.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %+v, %v; want %+v, %q", found, err, c.found, c.err)
			}
		})
	}
}

func TestNewestRuntime(t *testing.T) {
	has := []string{"python3.9", "python3.12", "nodejs22.x", "nodejs20.x", "provided.al2"}
	for f, want := range map[family]string{python: "python3.12", node: "nodejs22.x", goSource: "provided.al2023", binary: "provided.al2023"} {
		if got := newestRuntime(f, has); got != want {
			t.Errorf("%s: got %s, want %s", f, got, want)
		}
	}
	if got := newestRuntime(python, nil); got != defaultPython {
		t.Errorf("without a list: %s", got)
	}
}

func TestFunctionName(t *testing.T) {
	dir := t.TempDir()
	for name, want := range map[string]string{"my app": "my-app", "v1.2": "v1-2", "plain_ok-1": "plain_ok-1"} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := functionName(path); err != nil || got != want {
			t.Errorf("%q becomes %q, %v; want %q", name, got, err, want)
		}
	}
	if got, err := functionName(write(t, filepath.Join(dir, "handler.py"), "")); err != nil || got != "handler" {
		t.Errorf("a file: %q, %v", got, err)
	}
	if _, err := functionName(filepath.Join(dir, strings.Repeat("x", 65))); err == nil {
		t.Error("65 letters were taken")
	}
}

func TestParseSettings(t *testing.T) {
	for text, want := range map[string]int32{"30": 30, "30s": 30, "2m": 120, "15m": 900} {
		if got, err := parseSeconds(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, bad := range []string{"0", "1.5s", "16m", "soon", "-1"} {
		if _, err := parseSeconds(bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	set, err := parseSettings(deployFlags{env: []string{"A=1=2", "B="}, memory: 256})
	if err != nil || set.env.Variables["A"] != "1=2" || set.env.Variables["B"] != "" || *set.memory != 256 {
		t.Errorf("got %+v, %v", set, err)
	}
	for _, bad := range []string{"A", "=1"} {
		if _, err := parseSettings(deployFlags{env: []string{bad}}); err == nil {
			t.Errorf("--env %s was taken", bad)
		}
	}
}

func TestDeploy(t *testing.T) {
	d, data := newDouble(t)
	dir := filepath.Join(t.TempDir(), "hello")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "app.py"), "def handler(event, context):\n    return 1\n")
	deploy := func(args ...string) result {
		t.Helper()
		return command(t, nil, "", append([]string{"deploy", dir, "--data", data}, args...)...)
	}
	deploy().want(t, 0, "created hello python3.12  app.handler", "")
	if f := d.functions["hello"]; f["Role"] != "arn:aws:iam::000000000001:role/berth" || f["CodeSize"].(int) == 0 {
		t.Errorf("created %v", f)
	}
	deploy().want(t, 0, "updated hello", "")
	if n := d.count("PUT"); n != 0 {
		t.Errorf("%d changes by a deploy that changes nothing", n)
	}
	deploy("--memory", "512", "--timeout", "30s", "--env", "K=V").want(t, 0, "updated hello", "")
	if f := d.functions["hello"]; d.count("PUT /2015-03-31/functions/hello/configuration") != 1 || d.count("PUT /2015-03-31/functions/hello/code") != 0 ||
		f["MemorySize"] != 512.0 || f["Timeout"] != 30.0 {
		t.Errorf("changed to %v by %v", f, d.requests)
	}
	write(t, filepath.Join(dir, "app.py"), "def handler(event, context):\n    return 2\n")
	deploy("--json").want(t, 0, `"created":false`, "")
	if d.count("PUT /2015-03-31/functions/hello/configuration") != 1 || d.count("PUT /2015-03-31/functions/hello/code") != 1 {
		t.Errorf("new code: %v", d.requests)
	}
}

func TestDeployFails(t *testing.T) {
	d, data := newDouble(t)
	d.reason = "python3.8 is not installed here: apt-get install python3.8"
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "app.py"), "def handler(event, context):\n    return 1\n")
	command(t, nil, "", "deploy", file, "--data", data, "--runtime", "python3.8").want(t, 1, "", "app failed: python3.8 is not installed here")
	command(t, nil, "", "deploy", filepath.Join(dir, "nowhere"), "--data", data).want(t, 1, "", "nothing to deploy")
	command(t, nil, "", "deploy", file, "--data", data, "--env", "K").want(t, 2, "", "KEY=VALUE")
	command(t, nil, "", "deploy", write(t, filepath.Join(dir, "bad.zip"), "no zip"), "--data", data).want(t, 1, "", "not a valid zip")
}

// names returns what is in a zip.
func names(t *testing.T, zipped []byte) map[string]os.FileMode {
	t.Helper()
	reader, err := zip.NewReader(bytes.NewReader(zipped), int64(len(zipped)))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]os.FileMode{}
	for _, file := range reader.File {
		found[file.Name] = file.Mode()
	}
	return found
}

func TestPackFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "other.py"), "def lambda_handler(e, c): pass")
	b, err := pack(t.Context(), write(t, filepath.Join(dir, "one.py"), "def handler(e, c): pass"), "", "")
	if err != nil || b.detected != (detected{python, "one.handler"}) || len(names(t, b.zip)) != 1 {
		t.Errorf("one file: %+v, %v", b.detected, err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err = packAs(self, detected{binary, "bootstrap"})
	if err != nil || names(t, b.zip)["bootstrap"]&0o111 == 0 {
		t.Errorf("a program: %v, %v", names(t, b.zip), err)
	}
	write(t, filepath.Join(dir, "sub"), "")
	notRunnable := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(notRunnable, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(notRunnable, "bootstrap"), "#!/bin/sh\n")
	if _, err := pack(t.Context(), notRunnable, "", ""); err == nil || !strings.Contains(err.Error(), "chmod +x") {
		t.Errorf("a bootstrap that cannot be run: %v", err)
	}
}

func TestPackGo(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go tool")
	}
	b, err := pack(t.Context(), "../examples/go-hello", "", "")
	if err != nil || b.detected != (detected{goSource, "bootstrap"}) || names(t, b.zip)["bootstrap"]&0o111 == 0 {
		t.Fatalf("got %+v, %v", b.detected, err)
	}
	broken := t.TempDir()
	write(t, filepath.Join(broken, "main.go"), "package main\nfunc main() { undefined() }\n")
	if _, err := pack(t.Context(), filepath.Join(broken, "main.go"), "", ""); err == nil || !strings.Contains(err.Error(), "undefined") {
		t.Errorf("broken source: %v", err)
	}
}
