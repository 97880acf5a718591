package runtimes

import (
	"bytes"
	"context"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
	if language == "nodejs" {
		files = append(files, file{"rehearsal.frame", rehearsalFrame()})
	}
	return files, nil
}

// rehearsalFrame is an invoke frame (package runtimeapi) like those of most calls: what a waiting Node rehearses with.
func rehearsalFrame() []byte {
	meta := strings.Join([]string{"1767225600000", "8b0b3b1c-3d5c-4b8e-9d3e-2a1f0c9e7d6b", "arn:aws:lambda:us-east-1:000000000001:function:rehearsal",
		"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0", "", "", "", ""}, "\x00")
	const payload = `{"a":[1,"x",null]}`
	frame := binary.LittleEndian.AppendUint32(nil, uint32(1+4+len(meta)+len(payload)))
	frame = binary.LittleEndian.AppendUint32(append(frame, 'V'), uint32(len(meta)))
	return append(append(frame, meta...), payload...)
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
