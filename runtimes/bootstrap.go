package runtimes

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed all:bootstrap
var bootstraps embed.FS

// file is one file of a bootstrap.
type file struct {
	name    string
	content []byte
}

// bootstrap returns the files of one language's bootstrap, in order of name.
func bootstrap(language string) ([]file, error) {
	dir := "bootstrap/" + language
	entries, err := fs.ReadDir(bootstraps, dir)
	if err != nil {
		return nil, err
	}
	files := make([]file, len(entries))
	for i, e := range entries {
		content, err := fs.ReadFile(bootstraps, dir+"/"+e.Name())
		if err != nil {
			return nil, err
		}
		files[i] = file{e.Name(), content}
	}
	return files, nil
}

const stagingPrefix = ".unpack-"

// removeLeftovers removes what a daemon that was killed while it unpacked has left in root.
func removeLeftovers(root string) error {
	left, err := filepath.Glob(filepath.Join(root, stagingPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// unpack makes dir hold the files, and what finish adds to them. It is all there or not there: an earlier unpacking is kept
// if it is whole, and replaced in one step if not.
func unpack(dir string, files []file, finish func(dir string) error) error {
	if whole(dir, files) {
		return nil
	}
	staging, err := os.MkdirTemp(filepath.Dir(dir), stagingPrefix)
	if err != nil {
		return err
	}
	defer os.RemoveAll(staging)
	if err := os.Chmod(staging, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(staging, f.name)
		if err := os.WriteFile(name, f.content, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(name, 0o644); err != nil { // whatever the umask
			return err
		}
	}
	if err := finish(staging); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(staging, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("put the bootstrap in its place: %w", err)
	}
	return nil
}

// whole reports whether dir holds the files as they should be.
func whole(dir string, files []file) bool {
	for _, f := range files {
		have, err := os.ReadFile(filepath.Join(dir, f.name))
		if err != nil || !bytes.Equal(have, f.content) {
			return false
		}
	}
	return true
}

// compile is run by each Python once, so that no cold start has to compile the bootstrap. The compiled files name
// /var/runtime as their place; they are never checked against their sources, which lie on a read-only file system.
const compile = `
import os, sys, py_compile
os.umask(0o022)
staging, files = sys.argv[1], sys.argv[2:]
for name in files:
    source = os.path.join(staging, name)
    cached = os.path.join(staging, "__pycache__", "%s.%s.pyc" % (name[:-3], sys.implementation.cache_tag))
    if name == "bootstrap.py":
        cached = source + "c"
    py_compile.compile(source, cached, "/var/runtime/" + name, True,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
`

func compilePython(ctx context.Context, i interpreter, staging string, files []file) error {
	args := []string{"-I", "-S", "-c", compile, staging}
	for _, f := range files {
		args = append(args, f.name)
	}
	_, err := probe(ctx, i, args...)
	return err
}
