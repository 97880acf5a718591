package code

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"berth/lambda"
)

// layerZip packs files given as "name=content"; "name->target" is a link and "name/" a directory.
func layerZip(t *testing.T, entries ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		name, content, isFile := strings.Cut(e, "=")
		link, target, isLink := strings.Cut(e, "->")
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, filepath.Join(dir, link))
		case isFile:
			if err = os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err == nil {
				err = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644)
			}
		default:
			err = os.MkdirAll(filepath.Join(dir, e), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	data, err := Zip(dir)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// look lists a tree as "name=content", "name->target" and "name/".
func look(t *testing.T, root string) string {
	t.Helper()
	var seen []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, _ := filepath.Rel(root, path)
		switch {
		case d.IsDir():
			seen = append(seen, name+"/")
		case d.Type() == os.ModeSymlink:
			target, err := os.Readlink(path)
			seen = append(seen, name+"->"+target)
			return err
		default:
			content, err := os.ReadFile(path)
			seen = append(seen, name+"="+string(content))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(seen, " ")
}

func TestMerged(t *testing.T) {
	for _, c := range []struct {
		name string
		zips [][]string
		want string
	}{
		{"one", [][]string{{"a=1", "d/b=2"}}, "a=1 d/ d/b=2"},
		{"apart", [][]string{{"python/a=1"}, {"python/b=2"}}, "python/ python/a=1 python/b=2"},
		{"the last wins", [][]string{{"d/a=1", "x=1"}, {"d/a=2"}, {"d/a=3", "y=3"}}, "d/ d/a=3 x=1 y=3"},
		{"a file over a directory", [][]string{{"d/a=1", "d/e/f=1", "z=1"}, {"d=file"}}, "d=file z=1"},
		{"a directory over a file", [][]string{{"d=file", "z=1"}, {"d/a=2"}}, "d/ d/a=2 z=1"},
		{"a directory over a link", [][]string{{"real/a=1", "d->real"}, {"d/a=2"}}, "d/ d/a=2 real/ real/a=1"},
		{"a link over a directory", [][]string{{"d/a=1", "real/a=1"}, {"real/a=2", "d->real"}}, "d->real real/ real/a=2"},
		{"an empty directory over a file", [][]string{{"d=file"}, {"d/", "k=1"}}, "d/ k=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBlobs()
			cache, err := NewCache(CacheConfig{Dir: t.TempDir(), Blobs: b})
			if err != nil {
				t.Fatal(err)
			}
			var zips []lambda.CodeDigest
			for _, entries := range c.zips {
				zips = append(zips, b.add(layerZip(t, entries...)))
			}
			tree, err := cache.Merged(t.Context(), zips)
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Release()
			if got := look(t, tree.Path); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestMergedIsCachedByOrder(t *testing.T) {
	b := newBlobs()
	dir := t.TempDir()
	open := func() *Cache {
		cache, err := NewCache(CacheConfig{Dir: dir, Blobs: b})
		if err != nil {
			t.Fatal(err)
		}
		return cache
	}
	one, two := b.add(layerZip(t, "a=1")), b.add(layerZip(t, "a=2"))
	merged := func(c *Cache, zips ...lambda.CodeDigest) string {
		tree, err := c.Merged(t.Context(), zips)
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Release()
		return look(t, tree.Path)
	}
	cache := open()
	if got := merged(cache, one, two) + merged(cache, two, one) + merged(cache, one); got != "a=2a=1a=1" {
		t.Errorf("got %s", got)
	}
	opened := b.opened.Load()
	merged(cache, one, two)
	if merged(open(), one, two) != "a=2" || b.opened.Load() != opened { // nor after a restart
		t.Error("a merged tree was unpacked again")
	}
	if _, err := cache.Merged(t.Context(), []lambda.CodeDigest{one, "../../etc"}); err == nil {
		t.Error("accepted a digest that is none")
	}
	missing := lambda.CodeDigest(strings.Repeat("0", 64))
	if _, err := cache.Merged(t.Context(), []lambda.CodeDigest{one, missing}); err == nil {
		t.Error("merged with a zip that is not there")
	}
}
