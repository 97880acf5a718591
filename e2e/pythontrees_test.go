package e2e

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// removed is the module of the standard library that the second version of the runtime lacks.
const removed = "colorsys"

// What no function of these tests needs: the smaller an image, the sooner it is stored.
var (
	leftOut = []string{"test", "dist-packages", "idlelib", "ensurepip", "lib2to3", "tkinter", "turtledemo", "pydoc_data", "distutils", "asyncio", "email",
		"xml", "xmlrpc", "multiprocessing", "unittest", "http", "html", "wsgiref", "venv", "ctypes", "sqlite3", "curses", "dbm", "lib-dynload"}
	usual = regexp.MustCompile(`^(__init__|aliases|utf_8|latin_1|ascii)\.py|^__pycache__$`) // encodings
)

// pythonTrees copies the distribution's Python into two directories, each the root of a file system: as it is, and without the
// removed module.
func pythonTrees(t *testing.T) (runtime, whole, lacking string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/bin/python3.*")
	i := slices.IndexFunc(found, func(p string) bool { return regexp.MustCompile(`/python3\.(9|1[0-4])$`).MatchString(p) })
	if i < 0 {
		t.Skip("there is no /usr/bin/python3.N of a distribution here to make two versions of")
	}
	runtime = filepath.Base(found[i])
	if _, err := os.Stat("/usr/lib/" + runtime + "/" + removed + ".py"); err != nil {
		t.Skipf("the standard library of %s is not in /usr/lib: %v", found[i], err)
	}
	whole, lacking = t.TempDir(), t.TempDir()
	libraries, err := exec.Command("ldd", found[i]).Output()
	if err != nil {
		t.Skipf("ldd %s: %v", found[i], err)
	}
	files := append([]string{found[i]}, regexp.MustCompile(`/[^ ]+\.so[^ ]*`).FindAllString(string(libraries), -1)...)
	err = filepath.WalkDir("/usr/lib/"+runtime, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(leftOut, d.Name()), d.IsDir() && strings.HasPrefix(d.Name(), "config-"):
			return filepath.SkipDir
		case filepath.Base(filepath.Dir(path)) == "encodings" && !usual.MatchString(d.Name()):
		case d.Type().IsRegular():
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		copyInto(t, path, whole)
		if !strings.HasPrefix(filepath.Base(path), removed+".") {
			copyInto(t, path, lacking)
		}
	}
	return runtime, whole, lacking
}

func copyInto(t *testing.T, path, root string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(root, path)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, info.Mode().Perm()); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(to, info.ModTime(), info.ModTime()); err != nil { // else Python compiles what it finds compiled
		t.Fatal(err)
	}
}
