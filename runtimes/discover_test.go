package runtimes

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"berth/lambda"
	"berth/sandbox"
)

func TestDiscoverIsStable(t *testing.T) {
	set, err := discovered()
	if err != nil {
		t.Fatal(err)
	}
	if len(set.All()) < 2 {
		t.Fatalf("only %d runtimes", len(set.All()))
	}
	other, err := Discover(t.Context(), config(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	for _, rt := range set.All() {
		again, err := other.Find(rt.Name)
		if err != nil || again.Version != rt.Version || len(rt.Version) != 64 {
			t.Errorf("%s: %v, version %s", rt.Name, err, rt.Version)
		}
		if strings.HasPrefix(rt.Name, "provided") {
			if rt.Frames || rt.Command[0] != "/var/task/bootstrap" || slices.ContainsFunc(rt.Env, func(e string) bool { return strings.HasPrefix(e, "AWS_EXECUTION_ENV") }) {
				t.Errorf("%+v", rt)
			}
			continue
		}
		if !rt.Frames || !slices.Contains(rt.Env, "AWS_EXECUTION_ENV=AWS_Lambda_"+rt.Name) {
			t.Errorf("%+v", rt)
		}
		for _, m := range rt.Mounts {
			if real, err := filepath.EvalSymlinks(m.Source); err != nil || real != m.Source || !filepath.IsAbs(m.Target) {
				t.Errorf("%s: mount %+v: the source must be real (%v)", rt.Name, m, err)
			}
		}
	}
}

// The environment is what was recorded (test_introspection_invoke), but for what the worker adds.
func TestEnvironmentAsRecorded(t *testing.T) {
	for _, language := range []string{"python", "nodejs"} {
		for _, rt := range installed(t, language) {
			want := []string{
				"PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin", "LANG=en_US.UTF-8", "TZ=:UTC", "PWD=/var/task", "SHLVL=0",
				"LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
				"LAMBDA_TASK_ROOT=/var/task", "LAMBDA_RUNTIME_DIR=/var/runtime", "AWS_EXECUTION_ENV=AWS_Lambda_" + rt.Name,
			}
			if language == "python" {
				want = append(want, "PYTHONPATH=/var/runtime", "LC_CTYPE=C.UTF-8")
			} else {
				major := strings.TrimSuffix(strings.TrimPrefix(rt.Name, "nodejs"), ".x")
				want = append(want, "NODE_PATH=/opt/nodejs/node"+major+"/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task")
			}
			got := slices.Sorted(slices.Values(rt.Env))
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s\n got %q\nwant %q", rt.Name, got, want)
			}
		}
	}
}

func TestFindSaysHowToAdd(t *testing.T) {
	set := &Set{byName: map[string]*Runtime{"python3.11": {}}}
	for name, part := range map[string]string{
		"python3.13": "python3.13 is not installed on this host; install it (apt-get install python3.13) and restart Berth, or use one of: python3.11",
		"nodejs22.x": "nodejs22.x is not installed on this host; install Node.js 22",
		"ruby3.3":    "Berth has no runtime ruby3.3",
		"provided":   "Berth has no runtime provided",
	} {
		_, err := set.Find(name)
		if lambda.CodeOf(err) != lambda.InvalidRuntime || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A search path may lead anywhere; what is found there must be a program that every user can read.
func TestSearchPath(t *testing.T) {
	rt := installed(t, "python")[0]
	host := filepath.Join("/usr/bin", rt.Name)
	prefix := filepath.Join(t.TempDir(), "prefix")
	bin := filepath.Join(prefix, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(host)
	if err != nil {
		t.Skip(err)
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(rt.Name, string(program))
	write("python3.77", "#!/bin/sh\nexec "+host+" \"$@\"\n") // as version managers do
	write("node", "\x7fELF but broken")
	find := func() *Runtime {
		set, err := Discover(t.Context(), Config{StateDir: t.TempDir(), Search: []string{bin, "/nowhere"}})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(set.All()); n > 3 {
			t.Errorf("%d runtimes", n)
		}
		found, _ := set.Find(rt.Name)
		return found
	}
	found := find()
	if found == nil || found.Command[0] != "/var/lang/bin/"+rt.Name || !slices.Contains(found.Mounts, sandbox.Mount{Source: prefix, Target: "/var/lang"}) {
		t.Fatalf("%+v", found)
	}
	if found.Version == rt.Version {
		t.Error("another installation is another version")
	}
	if err := os.Chmod(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if found := find(); found != nil {
		t.Errorf("an interpreter that the sandbox's user cannot read: %+v", found)
	}
}

func TestUnpackRepairs(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "v")
	files := []file{{"a", []byte("1")}, {"b", []byte("2")}}
	finished := 0
	check := func() {
		t.Helper()
		if err := unpack(dir, files, func(string) error { finished++; return nil }); err != nil {
			t.Fatal(err)
		}
		if !whole(dir, files) {
			t.Error("not whole")
		}
		info, err := os.Stat(filepath.Join(dir, "a"))
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%v %v", info.Mode(), err)
		}
	}
	check()
	check()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o644); err != nil { // as after a power loss
		t.Fatal(err)
	}
	check()
	if finished != 2 {
		t.Errorf("unpacked %d times, want 2", finished)
	}
	if err := os.Mkdir(filepath.Join(root, stagingPrefix+"x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := removeLeftovers(root); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(root); len(left) != 1 {
		t.Errorf("left over: %v", left)
	}
}

// The mounts and the command fit together: the interpreters start in a root that has nothing else.
func TestRuntimesStartInTheirRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	if err := exec.Command("unshare", "-m", "true").Run(); err != nil {
		t.Skip("needs mount namespaces:", err)
	}
	for _, language := range []string{"python", "nodejs"} {
		for _, rt := range installed(t, language) {
			root := t.TempDir()
			script := "set -e\nmount -t tmpfs none " + root + "\nmkdir -p " + root + "/dev\ntouch " + root + "/dev/null\n"
			for _, m := range rt.Mounts {
				target := root + m.Target
				make := "mkdir -p " + target
				if info, err := os.Stat(m.Source); err == nil && !info.IsDir() {
					make = "mkdir -p " + filepath.Dir(target) + "; touch " + target
				}
				script += make + "\nmount --bind " + m.Source + " " + target + "\n"
			}
			// Without a handler the bootstrap ends with an error that goes to a file.
			script += "exec 3</dev/null 4>" + root + "/answer\nchroot " + root + " env -i " + strings.Join(rt.Env, " ") + " _HANDLER=nodot " +
				strings.Join(rt.Command, " ") + " || true\ncat " + root + "/answer\n"
			out, _ := exec.Command("unshare", "-m", "sh", "-c", script).CombinedOutput()
			if !strings.Contains(string(out), "Runtime.MalformedHandlerName") || !strings.Contains(string(out), "ERROR") {
				t.Errorf("%s:\n%s", rt.Name, out)
			}
		}
	}
}
