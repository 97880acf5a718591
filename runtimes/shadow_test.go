package runtimes

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// onAWS is what is in sys.modules of AWS's Python runtime before a function is loaded: by what its published source imports itself.
const onAWS = "json logging os sys time importlib traceback warnings site datetime enum decimal math re struct operator collections functools io codecs"

// onAWSFrom312 is what it imports in python3.12 and later, beside that.
const onAWSFrom312 = "concurrent concurrent.futures concurrent.futures.thread"

// TestPythonShadowing: a file of the function takes the place of a standard module only where AWS's runtime has not imported that one already.
func TestPythonShadowing(t *testing.T) {
	bothWays(t, "python", func(t *testing.T, rt *Runtime, start func(testing.TB, *Runtime, source, string, ...string) *process) {
		shadowable := "base64 binascii random socket http copy hashlib uuid glob shutil subprocess dataclasses ast inspect csv argparse"
		imports := onAWS
		if minor, _ := strconv.Atoi(strings.TrimPrefix(rt.Name, "python3.")); minor >= 12 {
			imports += " " + onAWSFrom312
		} else {
			shadowable += " queue heapq"
		}
		src := source{"h.py": `import importlib, sys
def handler(e, c):
    return [n for n in e.split() if getattr(importlib.import_module(n), "mine", 0)]
`, "w.py": "def handler(e, c):\n    if e == 0: raise ValueError('x')\n    import types\n    return types.MethodType.__name__\n"}
		never := importedBy(t, rt, imports)
		for _, name := range append(strings.Fields(shadowable), never...) {
			src[name+".py"] = "mine = 1\n"
		}
		p := start(t, rt, src, "h.handler")
		want(t, p.invoke(`"`+strings.Join(never, " ")+`"`), `[]`)
		mine := slices.DeleteFunc(strings.Fields(shadowable), func(n string) bool { return slices.Contains(never, n) || builtIn(t, rt, n) })
		asJSON, _ := json.Marshal(mine)
		want(t, p.invoke(`"`+strings.Join(mine, " ")+`"`), "%s", strings.ReplaceAll(string(asJSON), ",", ", "))

		p = start(t, rt, src, "w.handler")
		if got := p.object(p.invoke(`0`)); got["errorType"] != "ValueError" || got["errorMessage"] != "x" {
			t.Errorf("%v", got)
		}
		want(t, p.invoke(`1`), `"method"`)
		for _, name := range []string{"types", "json", "logging", "datetime"} {
			p = start(t, rt, source{name + ".py": "def handler(e, c): return 1\n"}, name+".handler")
			if got := p.invoke(`1`); !strings.Contains(got, "Handler 'handler' missing on module '"+name+"'") {
				t.Error(got)
			}
		}
	})
}

// importedBy returns the modules at the top that an interpreter has when it has imported these; a file can only stand in for such.
func importedBy(t *testing.T, rt *Runtime, modules string) []string {
	return strings.Fields(runPython(t, rt, "import sys\nfor n in sys.argv[1].split(): __import__(n)\n"+
		"print(*sorted({n for n in sys.modules if '.' not in n} - {'__main__'} - set(sys.builtin_module_names)))", modules))
}

func builtIn(t *testing.T, rt *Runtime, module string) bool {
	return strings.TrimSpace(runPython(t, rt, "import sys\nprint(sys.argv[1] in sys.builtin_module_names)", module)) == "True"
}

func runPython(t *testing.T, rt *Runtime, program, argument string) string {
	t.Helper()
	path := rt.Command[0]
	for _, m := range rt.Mounts {
		if m.Target == "/var/lang" {
			path = strings.Replace(path, m.Target, m.Source, 1)
		}
	}
	out, err := exec.CommandContext(t.Context(), path, "-I", "-S", "-c", program, argument).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
