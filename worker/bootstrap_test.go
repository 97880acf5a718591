package worker

import (
	"os"
	"path/filepath"
	"testing"

	"berth/code"
	"berth/runtimes"
)

// TestBootstrapIsFoundAsOnLambda: a directory, and a link that leads to one or to nothing, is no program; the layers' comes next then. Whatever else is
// there is taken, for the execve to say what is wrong with it.
func TestBootstrapIsFoundAsOnLambda(t *testing.T) {
	const file, dir = "file", "dir"
	for _, c := range []struct {
		name, code, layer string // the kind of bootstrap in each: file, dir, "" for none, or what a link leads to
		want              string
	}{
		{"code", file, "", "/var/task/bootstrap"},
		{"layer", "", file, "/opt/bootstrap"},
		{"both", file, file, "/var/task/bootstrap"},
		{"directory", dir, "", ""},
		{"directory and layer", dir, file, "/opt/bootstrap"},
		{"link", "real", file, "/var/task/bootstrap"},
		{"dangling link", "nothing", "", ""},
		{"dangling link and layer", "nothing", file, "/opt/bootstrap"},
		{"link to a directory", "sub", file, "/opt/bootstrap"},
		{"link to itself", "bootstrap", file, "/var/task/bootstrap"},
		{"link that leaves", "../../etc/passwd", file, "/var/task/bootstrap"},
		{"absolute link", "/bin/sh", file, "/var/task/bootstrap"},
		{"neither", "", "", ""},
		{"directories", dir, dir, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tree := func(kind string) *code.Tree {
				at := t.TempDir()
				path := filepath.Join(at, "bootstrap")
				err := os.Mkdir(filepath.Join(at, "sub"), 0o755)
				if err == nil {
					err = os.WriteFile(filepath.Join(at, "real"), nil, 0o755)
				}
				switch {
				case err != nil || kind == "":
				case kind == file:
					err = os.WriteFile(path, nil, 0o644)
				case kind == dir:
					err = os.Mkdir(path, 0o755)
				default:
					err = os.Symlink(kind, path)
				}
				if err != nil {
					t.Fatal(err)
				}
				return &code.Tree{Path: at}
			}
			e := &environment{runtime: &runtimes.Runtime{Command: []string{"/var/task/bootstrap"}}, tree: tree(c.code), layers: tree(c.layer)}
			path, found := e.bootstrap()
			if found != (c.want != "") || found && path != c.want {
				t.Errorf("%s, %t; want %q", path, found, c.want)
			}
		})
	}
}
