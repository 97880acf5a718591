package worker_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"berth/lambda"
)

// library is a shared library of this host, as files of a layer; none if there is none where they usually are.
func library(t *testing.T, name string) map[string]string {
	found, _ := filepath.Glob("/lib*/libm.so.6")
	more, _ := filepath.Glob("/lib/*/libm.so.6")
	for _, path := range append(found, more...) {
		text, err := os.ReadFile(path)
		must(t, err)
		return map[string]string{name: string(text)}
	}
	return nil
}

// layered is v with layers made of files; the last one wins.
func (r *real) layered(v *lambda.Version, layers ...map[string]string) *lambda.Version {
	r.t.Helper()
	for _, files := range layers {
		v.Layers = append(v.Layers, r.zip(files))
	}
	must(r.t, r.Prepare(context.Background(), v))
	return v
}

// wantPooled checks that all environments so far began in parked sandboxes where there is a pool.
func (r *real) wantPooled(n uint64) {
	r.t.Helper()
	if r.pooled {
		r.wantTaken(n)
	}
}

// TestLayersPython: modules, packages that cover modules imported ahead, programs and libraries of layers are found, also by an
// interpreter that was started before they were there.
func TestLayersPython(t *testing.T) {
	bothWays(t, func(t *testing.T, r *real) {
		v := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": `
import base64, ctypes, os, subprocess, shared, extra
def handler(event, context):
    if event == "library": return ctypes.CDLL("libofalayer.so").abs(-3)
    return [shared.WORD, extra.WORD, base64.WORD, subprocess.run(["tool"], capture_output=True, text=True).stdout, sorted(os.listdir("/opt"))]
`})
		site := "python/lib/" + v.Runtime + "/site-packages/extra.py"
		lib := library(t, "lib/libofalayer.so")
		r.layered(v, map[string]string{"python/shared.py": "WORD = 'old'\n", site: "WORD = 'extra'\n"},
			map[string]string{"python/shared.py": "WORD = 'new'\n", "python/base64.py": "WORD = 'mine'\n", "bin/tool": "#!/bin/sh\necho tool\n"})
		if lib != nil {
			r.layered(v, lib)
		} else {
			r.layered(v, map[string]string{"lib/x": ""})
		}
		res := r.start(v)
		r.want(r.call(res, `1`), lambda.OK, `^\["new", ?"extra", ?"mine", ?"tool\\n", ?\["bin", ?"lib", ?"python"\]\]$`)
		if lib != nil {
			r.want(r.call(res, `"library"`), lambda.OK, `^3$`)
		}
		r.wantPooled(1)
	})
}

func TestLayersNode(t *testing.T) {
	bothWays(t, func(t *testing.T, r *real) {
		v := r.version(r.runtime("nodejs"), "index.handler", map[string]string{"index.js": `
const shared = require('shared'), own = require('own');
exports.handler = async (e) => [shared, own, require('child_process').execFileSync('tool').toString(), require('fs').readdirSync('/opt')]`})
		major := v.Runtime[len("nodejs") : len(v.Runtime)-len(".x")]
		r.layered(v, map[string]string{"nodejs/node_modules/shared/index.js": "module.exports = 'old'"},
			map[string]string{"nodejs/node_modules/shared/index.js": "module.exports = 'new'",
				"nodejs/node" + major + "/node_modules/own/index.js": "module.exports = 'own'", "bin/tool": "#!/bin/sh\necho tool\n"})
		r.want(r.call(r.start(v), `1`), lambda.OK, `^\["new","own","tool\\n",\["bin","nodejs"\]\]$`)
		r.wantPooled(1)
	})
}

func TestLayersProvided(t *testing.T) {
	bothWays(t, func(t *testing.T, r *real) {
		v := r.layered(r.version("provided.al2023", "x", map[string]string{"data.txt": "x"}), map[string]string{"bootstrap": buildGo(t)})
		r.want(r.call(r.start(v), `"a"`), lambda.OK, `^"go: a"$`)
		r.wantPooled(1)
	})
}
