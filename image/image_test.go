package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"

	"berth/lambda"
	"berth/store"
	"berth/store/memory"
)

// entry is one line of a test's layer.
type entry struct {
	name    string
	content string
	kind    byte // 0 is a file
	link    string
	mode    int64
}

func tarOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Linkname: e.link, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.content)), ModTime: time.Unix(1_600_000_000, 0)}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		must(t, w.WriteHeader(h))
		_, err := io.WriteString(w, e.content)
		must(t, err)
	}
	must(t, w.Close())
	return b.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func layerOf(t testing.TB, raw []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
	must(t, err)
	return l
}

func imageOf(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	var all []v1.Layer
	for _, raw := range layers {
		all = append(all, layerOf(t, raw))
	}
	img, err := mutate.AppendLayers(empty.Image, all...)
	must(t, err)
	config, err := img.ConfigFile()
	must(t, err)
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Config = v1.Config{Env: []string{"A=b"}, Entrypoint: []string{"/run"}, Cmd: []string{"x"}, WorkingDir: "/w"}
	img, err = mutate.ConfigFile(img, config)
	must(t, err)
	return img
}

// unpackTo keeps an image and unpacks it.
func unpackTo(t testing.TB, img v1.Image, limits Limits) (dir string, used int64, err error) {
	t.Helper()
	blobs := memory.NewBlobs()
	if _, err := Keep(t.Context(), blobs, img, limits); err != nil {
		return "", 0, err
	}
	return unpackBlobs(t, blobs, img, limits)
}

func unpackBlobs(t testing.TB, blobs store.Blobs, img v1.Image, limits Limits) (string, int64, error) {
	t.Helper()
	digest, err := img.Digest()
	must(t, err)
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	must(t, err)
	defer root.Close()
	used, err := Unpack(t.Context(), blobs, lambda.CodeDigest(digest.Hex), root, limits)
	return dir, used, err
}

// listing shows what an unpacked image holds, without what complete adds.
func listing(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(Root(dir), func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(Root(dir), p)
		if err != nil || rel == "." || rel == "etc" || strings.HasPrefix(rel, "etc/") {
			return err
		}
		line := rel
		switch {
		case d.IsDir():
			line += "/"
		case d.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(p)
			line += "→" + target
		default:
			text, _ := os.ReadFile(p)
			line += "=" + string(text)
		}
		out = append(out, line)
		return nil
	}))
	return out
}

func TestLayersAreOverlaid(t *testing.T) {
	for _, c := range []struct {
		name   string
		layers [][]entry
		want   []string
	}{
		{"a later file replaces", [][]entry{{{name: "a", content: "1"}, {name: "b", content: "1"}}, {{name: "./a", content: "2"}}}, []string{"a=2", "b=1"}},
		{"a whiteout hides a file and a directory", [][]entry{{{name: "d/x"}, {name: "d/y/z"}}, {{name: "d/.wh.x"}, {name: "d/.wh.y"}}}, []string{"d/"}},
		{"a whiteout does not hide its own layer's", [][]entry{{{name: "x", content: "1"}}, {{name: "x", content: "2"}, {name: ".wh.x"}}}, []string{"x=2"}},
		{"an opaque directory hides what is below", [][]entry{{{name: "d/x"}, {name: "d/e/y"}, {name: "d/e/z"}}, {{name: "d/e/z", content: "new"}, {name: "d/.wh..wh..opq"}, {name: "d/n"}}},
			[]string{"d/", "d/e/", "d/e/z=new", "d/n="}},
		{"a file becomes a directory and back", [][]entry{{{name: "a", content: "1"}, {name: "b/c"}}, {{name: "a", kind: tar.TypeDir}, {name: "a/x"}, {name: "b", content: "2"}}}, []string{"a/", "a/x=", "b=2"}},
		{"links keep their targets", [][]entry{{{name: "l", kind: tar.TypeSymlink, link: "/usr/x"}, {name: "up", kind: tar.TypeSymlink, link: "../../../etc/shadow"}}}, []string{"l→/usr/x", "up→../../../etc/shadow"}},
		{"a parent that is a link is followed inside", [][]entry{{{name: "usr/lib", kind: tar.TypeDir}, {name: "lib", kind: tar.TypeSymlink, link: "/usr/lib"}}, {{name: "lib/x", content: "1"}}},
			[]string{"lib→/usr/lib", "usr/", "usr/lib/", "usr/lib/x=1"}},
		{"a parent that climbs stays inside", [][]entry{{{name: "up", kind: tar.TypeSymlink, link: "../../.."}, {name: "up/evil", content: "1"}}}, []string{"evil=1", "up→../../.."}},
		{"a hard link is a second name", [][]entry{{{name: "a", content: "1"}}, {{name: "b", kind: tar.TypeLink, link: "/a"}}}, []string{"a=1", "b=1"}},
		{"a rewritten hard link leaves the first name", [][]entry{{{name: "a", content: "1"}, {name: "b", kind: tar.TypeLink, link: "a"}}, {{name: "b", content: "2"}}}, []string{"a=1", "b=2"}},
		{"devices and pipes are dropped", [][]entry{{{name: "null", kind: tar.TypeChar}, {name: "sda", kind: tar.TypeBlock}, {name: "p", kind: tar.TypeFifo}, {name: "f"}}}, []string{"f="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var raw [][]byte
			for _, l := range c.layers {
				raw = append(raw, tarOf(t, l...))
			}
			dir, _, err := unpackTo(t, imageOf(t, raw...), Limits{})
			must(t, err)
			if got := listing(t, dir); !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestHostileImagesAreRefused(t *testing.T) {
	loop := []entry{{name: "a", kind: tar.TypeSymlink, link: "b"}, {name: "b", kind: tar.TypeSymlink, link: "a"}, {name: "a/x"}}
	for _, c := range []struct {
		name    string
		entries []entry
		says    string
	}{
		{"dots", []entry{{name: "a/../../x"}}, "leads out"},
		{"a file as a directory", []entry{{name: "a", content: "1"}, {name: "a/b"}}, "used as a directory"},
		{"a loop of links", loop, "cannot be reached"},
		{"a link to nothing", []entry{{name: "h", kind: tar.TypeLink, link: "nothing"}}, "hard link"},
		{"a link out", []entry{{name: "h", kind: tar.TypeLink, link: "../../etc/passwd"}}, "leads out"},
		{"too much data", []entry{{name: "big", content: strings.Repeat("x", 5000)}}, "larger than is allowed"},
		{"too many files", []entry{{name: "1"}, {name: "2"}, {name: "3"}, {name: "4"}}, "more files"},
		{"a nameless whiteout", []entry{{name: "d/.wh."}}, "names none"},
		{"a whiteout of what is above", []entry{{name: "d/.wh..."}}, "names none"},
		{"a long name", []entry{{name: strings.Repeat("y", 300)}}, "more than 255"},
		{"a deep name", []entry{{name: strings.Repeat("y/", 200) + "z"}}, "deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := unpackTo(t, imageOf(t, tarOf(t, c.entries...)), Limits{Bytes: 4096, Entries: 3})
			if err == nil || !isRefusal(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("err = %v, want a refusal that says %q", err, c.says)
			}
		})
	}
}

// A few kilobytes that would become many gigabytes are stopped at the bound, gzip and zstd alike.
func TestBombsAreBounded(t *testing.T) {
	zeros := tarOf(t, entry{name: "zeros", content: strings.Repeat("\x00", 8<<20)})
	img := imageOf(t, zeros)
	if _, _, err := unpackTo(t, img, Limits{Bytes: 1 << 20, Entries: 10}); !isRefusal(err) {
		t.Errorf("gzip: %v", err)
	}
	padding := append(tarOf(t, entry{name: "f"}), make([]byte, 8<<20)...)
	if _, _, err := unpackTo(t, imageOf(t, padding), Limits{Bytes: 1 << 20, Entries: 10}); !isRefusal(err) {
		t.Errorf("padding: %v", err)
	}
	for name, window := range map[string]int{"content": 1 << 20, "window": 256 << 20} {
		var b bytes.Buffer
		w, err := zstd.NewWriter(&b, zstd.WithWindowSize(window), zstd.WithSingleSegment(false))
		must(t, err)
		_, err = w.Write(zeros)
		must(t, err)
		must(t, w.Flush())
		must(t, w.Close())
		plain, done, err := decompress(&b)
		if err == nil {
			left := int64(1 << 20)
			_, err = io.Copy(io.Discard, &bounded{r: plain, from: &source{}, left: &left, sum: newSum()})
			done()
		}
		if !isRefusal(err) {
			t.Errorf("zstd, %s: %v", name, err)
		}
	}
}

func TestFilesLoseTheirPrivileges(t *testing.T) {
	dir, used, err := unpackTo(t, imageOf(t, tarOf(t,
		entry{name: "su", mode: 0o6755}, entry{name: "secret", mode: 0o600}, entry{name: "home/", kind: tar.TypeDir, mode: 0o1700}, entry{name: "open", mode: 0o777})), Limits{})
	must(t, err)
	for name, want := range map[string]fs.FileMode{"su": 0o755, "secret": 0o644, "home": 0o755 | fs.ModeDir, "open": 0o755} {
		info, err := os.Lstat(filepath.Join(Root(dir), name))
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
	}
	if used < 4*blockSize {
		t.Errorf("used = %d", used)
	}
	s, err := ReadSettings(dir)
	must(t, err)
	if s.WorkingDir != "/w" || len(s.Entrypoint) != 1 || s.Env[0] != "A=b" {
		t.Errorf("settings = %+v", s)
	}
}

// What is added for the sandbox's user never leaves the tree, whatever /etc is.
func TestCompletionStaysInside(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	must(t, os.WriteFile(outside, []byte("untouched\n"), 0o644))
	dir, _, err := unpackTo(t, imageOf(t, tarOf(t,
		entry{name: "etc", kind: tar.TypeSymlink, link: "/conf"}, entry{name: "conf/group", content: "wheel:x:1:"},
		entry{name: "conf/passwd", kind: tar.TypeSymlink, link: outside})), Limits{})
	must(t, err)
	if text, _ := os.ReadFile(outside); string(text) != "untouched\n" {
		t.Errorf("the file outside holds %q", text)
	}
	passwd, err := os.ReadFile(filepath.Join(Root(dir), "conf/passwd"))
	if err != nil || !strings.Contains(string(passwd), "sbx_user1051:x:993:990") {
		t.Errorf("passwd = %q, %v", passwd, err)
	}
	group, err := os.ReadFile(filepath.Join(Root(dir), "conf/group"))
	if err != nil || string(group) != "wheel:x:1:\nsbx_user1051:x:990:\n" {
		t.Errorf("group = %q, %v", group, err)
	}
}

func TestLookupAndMounts(t *testing.T) {
	dir, _, err := unpackTo(t, imageOf(t, tarOf(t,
		entry{name: "usr/bin/sh", content: "#!"}, entry{name: "bin", kind: tar.TypeSymlink, link: "/usr/bin"}, entry{name: "usr/bin/note", mode: 0o644},
		entry{name: "var/log/x"}, entry{name: "var/task/app"}, entry{name: "out", kind: tar.TypeSymlink, link: "/nowhere"}, entry{name: "tmp/x"},
		entry{name: "t", kind: tar.TypeSymlink, link: "tmp"}, entry{name: "top", content: "f"})), Limits{})
	must(t, err)
	for _, c := range []struct{ name, want string }{{"sh", "/bin/sh"}, {"/bin/sh", "/bin/sh"}, {"./usr/../bin/sh", "/bin/sh"}, {"note", ""}, {"app", ""}} {
		got, err := Lookup(dir, c.name, "/", "/nothing:/bin")
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("Lookup(%q) = %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	mounts, err := Mounts(dir, "/var/task")
	must(t, err)
	var got []string
	for _, m := range mounts {
		got = append(got, m.Target+"="+strings.TrimPrefix(m.Source, Root(dir)))
	}
	want := []string{"/bin=/usr/bin", "/etc=/etc", "/top=/top", "/usr=/usr", "/var/log=/var/log"}
	if !slices.Equal(got, want) {
		t.Errorf("mounts = %q, want %q", got, want)
	}
}

func TestSources(t *testing.T) {
	img := imageOf(t, tarOf(t, entry{name: "f", content: "1"}), tarOf(t, entry{name: "g", content: "2"}))
	dir := t.TempDir()
	l, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	must(t, err)
	must(t, l.AppendImage(img, layout.WithAnnotations(map[string]string{refName: "v1"})))
	tag, err := name.NewTag("example.test/app:v1")
	must(t, err)
	must(t, tarball.WriteToFile(filepath.Join(dir, "saved.tar"), tag, img))
	var packed bytes.Buffer
	must(t, writeDir(filepath.Join(dir, "layout"), &packed))
	must(t, os.WriteFile(filepath.Join(dir, "oci.tar"), packed.Bytes(), 0o644))
	must(t, os.MkdirAll(filepath.Join(dir, "tree", "sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "tree", "f"), []byte("1"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "tree", "sub", "g"), []byte("2"), 0o600))
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	ref, err := name.ParseReference(host + "/team/app:v1")
	must(t, err)
	must(t, remote.Write(ref, img))

	sources := New(Config{Dirs: []string{dir}, Temp: t.TempDir()})
	for _, c := range []struct{ ref, kept string }{
		{host + "/team/app:v1", host + "/team/app"},
		{"oci-layout:" + dir + "/layout", ""},
		{"oci-layout:" + dir + "/layout:v1", ""},
		{"archive:" + dir + "/saved.tar", ""},
		{"archive:" + dir + "/oci.tar", ""},
		{"dir:" + dir + "/tree", ""},
	} {
		t.Run(c.ref[:min(len(c.ref), 12)], func(t *testing.T) {
			opened, err := sources.Open(t.Context(), c.ref, "x86_64")
			must(t, err)
			defer opened.Close()
			again, err := sources.Open(t.Context(), opened.Resolved, "x86_64")
			must(t, err)
			defer again.Close()
			if again.Digest != opened.Digest || !strings.HasSuffix(opened.Resolved, "@sha256:"+string(opened.Digest)) || !strings.HasPrefix(opened.Resolved, c.kept) {
				t.Errorf("resolved to %s, and that to %s", opened.Resolved, again.Resolved)
			}
			blobs := memory.NewBlobs()
			_, err = Keep(t.Context(), blobs, again.Image, Limits{})
			must(t, err)
			unpacked, _, err := unpackBlobs(t, blobs, again.Image, Limits{})
			must(t, err)
			if got := listing(t, unpacked); len(got) < 2 || got[0] != "f=1" || !strings.HasSuffix(got[len(got)-1], "g=2") {
				t.Errorf("unpacked: %q", got)
			}
		})
	}
}

func TestSourcesAreRefused(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "in"), 0o755))
	must(t, os.Symlink("/etc", filepath.Join(dir, "in", "out")))
	sources := New(Config{Dirs: []string{filepath.Join(dir, "in")}})
	for ref, says := range map[string]string{
		host + "/no/such:tag":              "does not exist. Provide a valid source image.",
		"NOT A REFERENCE":                  "is not valid. Provide a valid source image.",
		"dir:" + dir:                       "below",
		"dir:" + dir + "/in/../../x":       "below",
		"dir:" + dir + "/in/out":           "below",
		"archive:" + dir + "/in/none":      "does not exist",
		"oci-layout:relative":              "absolute",
		"archive:" + dir + "/in/out/hosts": "below",
	} {
		if _, err := sources.Open(t.Context(), ref, "x86_64"); !isRefusal(err) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", ref, err, says)
		}
	}
	if _, err := New(Config{}).Open(t.Context(), "dir:/", "x86_64"); !isRefusal(err) || !strings.Contains(err.Error(), "--image-dir") {
		t.Errorf("without a directory allowed: %v", err)
	}
	img := imageOf(t, tarOf(t, entry{name: "f"}))
	ref, err := name.ParseReference(host + "/app")
	must(t, err)
	must(t, remote.Write(ref, img))
	if _, err := sources.Open(t.Context(), host+"/app", "arm64"); !isRefusal(err) {
		t.Errorf("for another machine: %v", err)
	}
}

// Only hosts that were allowed are asked without TLS, whatever a registry's client thinks of their network.
func TestPlainRegistriesAreAskedForOnly(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for host, plain := range map[string]bool{"localhost:1": true, "127.0.0.1:1": true, "[::1]:1": true, "10.0.0.1:1": false, "registry.local:1": false, "allowed.test:1": true} {
		req := httptest.NewRequestWithContext(ctx, "GET", "http://"+host+"/v2/", nil)
		stop, cancel := context.WithCancel(ctx)
		cancel() // what is let through fails at once
		_, err := newTransport(host, []string{"allowed.test:1"}).RoundTrip(req.WithContext(stop))
		if err == nil || (err == errPlain) == plain {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestDamagedLayersAreRefused(t *testing.T) {
	img := imageOf(t, tarOf(t, entry{name: "f", content: strings.Repeat("data", 100)}))
	manifest, err := img.Manifest()
	must(t, err)
	other := imageOf(t, tarOf(t, entry{name: "g"}))
	layers, err := other.Layers()
	must(t, err)
	r, err := layers[0].Compressed()
	must(t, err)
	swapped, err := io.ReadAll(r)
	must(t, err)
	blobs := memory.NewBlobs()
	if err := keep(t.Context(), blobs, manifest.Layers[0].Digest, bytes.NewReader(swapped)); !isRefusal(err) {
		t.Errorf("another layer's bytes: %v", err)
	}
	for _, c := range [][]byte{{0x1f, 0x8b, 8, 0, 1}, append(gz(t, "x"), 'y'), gz(t, "no tar at all, and long enough to be a header: "+strings.Repeat("z", 600))} {
		from := &source{Reader: bytes.NewReader(c)}
		plain, done, err := decompress(from)
		if err == nil {
			left := int64(1 << 20)
			u := &unpacker{left: 1 << 20, entries: 10, buf: make([]byte, 1024)}
			counted := &bounded{r: plain, from: from, left: &left, sum: newSum()}
			if err = u.apply(t.Context(), counted); err == nil {
				_, err = io.Copy(io.Discard, counted)
			}
			done()
		}
		if !isRefusal(err) {
			t.Errorf("%x…: %v", c[:5], err)
		}
	}
}

func gz(t testing.TB, s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := io.WriteString(w, s)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

// isRefusal reports whether an error is the image's own fault, not the network's or the disk's.
func isRefusal(err error) bool {
	var e *lambda.Error
	return errors.As(err, &e)
}
