package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func newSum() hash.Hash { return sha256.New() }

// FuzzLayer unpacks hostile archives beside a file that must stay as it is, in a directory that must hold nothing else.
func FuzzLayer(f *testing.F) {
	f.Add(tarOf(f, entry{name: "a/b", content: "1"}, entry{name: "a/.wh..wh..opq"}, entry{name: ".wh.a"}))
	f.Add(tarOf(f, entry{name: "l", kind: tar.TypeSymlink, link: "../.."}, entry{name: "l/canary", content: "2"}, entry{name: "l/.wh.canary"}))
	f.Add(tarOf(f, entry{name: "h", kind: tar.TypeLink, link: "l/../../canary"}, entry{name: "p", kind: tar.TypeFifo}))
	f.Add(tarOf(f, entry{name: "etc", kind: tar.TypeSymlink, link: "/etc"}, entry{name: "etc/passwd", kind: tar.TypeSymlink, link: "../../canary"}))
	f.Fuzz(func(t *testing.T, layer []byte) {
		dir := t.TempDir()
		canary := filepath.Join(dir, "canary")
		must(t, os.WriteFile(canary, []byte("untouched"), 0o600))
		must(t, os.Mkdir(filepath.Join(dir, "tree"), 0o755))
		root, err := os.OpenRoot(filepath.Join(dir, "tree"))
		must(t, err)
		defer root.Close()
		u := &unpacker{root: root, left: 1 << 20, entries: 200, buf: make([]byte, 4096)}
		for range 2 { // over itself too
			if u.apply(t.Context(), bytes.NewReader(layer)) == nil {
				_ = u.complete()
			}
		}
		if text, err := os.ReadFile(canary); err != nil || string(text) != "untouched" {
			t.Fatalf("the file outside: %q, %v", text, err)
		}
		beside, err := os.ReadDir(dir)
		if err != nil || len(beside) != 2 {
			t.Fatalf("outside: %v, %v", beside, err)
		}
		must(t, fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if m := info.Mode(); m&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|fs.ModeDevice|fs.ModeNamedPipe|fs.ModeSocket) != 0 {
				t.Fatalf("%s has mode %v", name, m)
			}
			return nil
		}))
	})
}
