package code

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/lambda"
)

// item is one entry of a zip under test.
type item struct {
	name    string
	content string
	mode    fs.FileMode
	edit    func(*zip.FileHeader)
}

// unpack writes the tree of one zip into root.
func unpack(ctx context.Context, r io.ReaderAt, size int64, root *os.Root) (int64, error) {
	plan, err := newPlan(r, size)
	if err != nil {
		return 0, err
	}
	return plan.write(ctx, root)
}

func makeZip(t testing.TB, items ...item) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, it := range items {
		h := &zip.FileHeader{Name: it.name, Method: zip.Deflate, Modified: time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC)}
		if it.mode == 0 {
			it.mode = 0o644
		}
		h.SetMode(it.mode)
		if it.edit != nil {
			it.edit(h)
		}
		f, err := w.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(it.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func link(name, target string) item {
	return item{name: name, content: target, mode: fs.ModeSymlink | 0o777}
}

// unpackBytes unpacks as the cache does.
func unpackBytes(t testing.TB, data []byte) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	_, err = unpack(t.Context(), bytes.NewReader(data), int64(len(data)), root)
	return dir, err
}

func TestInspectAndUnpackAGoodZip(t *testing.T) {
	data := makeZip(t,
		item{name: "./", mode: fs.ModeDir | 0o755}, // as bsdtar writes it
		item{name: "./main.py", content: "def handler(event, context): pass\n", mode: 0o600},
		item{name: "bin/run", content: "#!/bin/sh\n", mode: 0o6711},
		item{name: "lib/", mode: fs.ModeDir | 0o700},
		item{name: "lib/", mode: fs.ModeDir | 0o700},
		item{name: "lib/ä €/empty"},
		link("lib/up", "../bin/run"),
		link("lib/self", ".."),
		link("dangling", "nothing/here"),
		item{name: "old", edit: func(h *zip.FileHeader) { h.Modified = time.Unix(100_000, 0) }},
		item{name: "stored", content: strings.Repeat("x", 5000), edit: func(h *zip.FileHeader) { h.Method = zip.Store }},
	)
	info, err := Inspect(data)
	if err != nil {
		t.Fatal(err)
	}
	if info.Files != 8 || info.Size != int64(len(data)) || info.Unpacked != 34+10+10+2+12+5000 || len(info.Digest) != 64 || len(info.SHA256) != 44 {
		t.Errorf("Info = %+v", info)
	}
	dir, err := unpackBytes(t, data)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"main.py": "-rw-r--r--", "bin/run": "-rwxr-xr-x", "bin": "drwxr-xr-x", "lib": "drwxr-xr-x", "lib/ä €/empty": "-rw-r--r--",
		"lib/up": "Lrwxrwxrwx", "stored": "-rw-r--r--",
	} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err != nil || st.Mode().String() != want {
			t.Errorf("%s: %v, %v; want %s", name, st.Mode(), err, want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "lib/up")); err != nil || string(b) != "#!/bin/sh\n" {
		t.Errorf("through the link: %q, %v", b, err)
	}
	for name, want := range map[string]time.Time{"main.py": time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC), "old": earliest} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || !st.ModTime().Equal(want) {
			t.Errorf("%s: modified %v, %v; want %v", name, st.ModTime(), err, want)
		}
	}
}

// badZips are refused alike by Inspect and by unpack.
func badZips(t testing.TB) map[string][]byte {
	long := strings.Repeat("a", 256)
	good := makeZip(t, item{name: "a", content: strings.Repeat("hello ", 100)})
	flip := func(at int) []byte { b := bytes.Clone(good); b[at] ^= 0xff; return b }
	lying := bytes.Clone(good) // the directory says 10 bytes; the data has more
	binary.LittleEndian.PutUint32(lying[bytes.Index(lying, []byte("PK\x01\x02"))+24:], 10)
	bad := map[string][]byte{
		"not a zip":        []byte("hello"),
		"truncated":        good[:len(good)-10],
		"damaged data":     flip(40),
		"lying size":       lying,
		"link to absolute": makeZip(t, link("l", "/etc/passwd")),
		"link up":          makeZip(t, link("l", "..")),
		"link up deep":     makeZip(t, link("a/b/l", "../../../x")),
		"link chain":       makeZip(t, link("a/b/up", "../.."), link("m", "a/b/up/../x")),
		"link, dots later": makeZip(t, item{name: "d/f"}, link("m", "d/../../x")),
		"link, empty":      makeZip(t, link("l", "")),
		"link, long":       makeZip(t, link("l", strings.Repeat("a/", maxTarget))),
		"file below link":  makeZip(t, link("l", "d"), item{name: "l/f"}, item{name: "d/f"}),
		"file as dir":      makeZip(t, item{name: "f"}, item{name: "f/g"}),
		"dir as file":      makeZip(t, item{name: "f/g"}, item{name: "f"}),
		"dir over file":    makeZip(t, item{name: "f"}, item{name: "f/", mode: fs.ModeDir}),
		"twice":            makeZip(t, item{name: "f"}, item{name: "./f"}),
		"device":           makeZip(t, item{name: "null", mode: fs.ModeDevice | fs.ModeCharDevice | 0o666}),
		"fifo":             makeZip(t, item{name: "fifo", mode: fs.ModeNamedPipe}),
		"socket":           makeZip(t, item{name: "s", mode: fs.ModeSocket}),
		"encrypted":        makeZip(t, item{name: "f", edit: func(h *zip.FileHeader) { h.Flags |= 1 }}),
	}
	for _, name := range []string{"../x", "a/../../x", "a/..", "..", "/etc/passwd", "C:/x", "c:x", `a\b`, "a\x00b", "a\nb", "a\x1b[2Jb", "\u0085", ".", long, strings.Repeat("a/", maxName)} {
		bad[fmt.Sprintf("name %.20q", name)] = makeZip(t, item{name: name})
	}
	return bad
}

func TestBadZipsAreRefused(t *testing.T) {
	for name, data := range badZips(t) {
		_, err := Inspect(data)
		var e *lambda.Error
		if !errors.As(err, &e) || e.Code != lambda.InvalidParameterValue || !strings.HasPrefix(e.Message, textUnzip) {
			t.Errorf("%s: Inspect: %v", name, err)
		}
		dir, err := unpackBytes(t, data)
		if err == nil {
			t.Errorf("%s: unpacked", name)
		}
		if _, err := os.Lstat(filepath.Join(filepath.Dir(dir), "x")); err == nil {
			t.Errorf("%s: wrote outside its directory", name)
		}
	}
	for _, data := range [][]byte{nil, makeZip(t)} {
		if _, err := Inspect(data); err == nil || !strings.HasSuffix(err.Error(), textEmpty) {
			t.Errorf("empty: %v", err)
		}
	}
}

// zeros is a zip of entries of n MiB of zero bytes, put together from one compressed MiB.
func zeros(t testing.TB, entries, n int) []byte {
	t.Helper()
	chunk := make([]byte, 1<<20)
	var one, end bytes.Buffer
	c, err := flate.NewWriter(&one, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := c.Write(chunk)
	err2 := c.Flush() // ends at a byte
	c.Reset(&end)
	if err := errors.Join(err1, err2, c.Close()); err != nil {
		t.Fatal(err)
	}
	data, sum := append(bytes.Repeat(one.Bytes(), n), end.Bytes()...), crc32.NewIEEE()
	for range n {
		_, _ = sum.Write(chunk)
	}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := range entries {
		f, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprintf("f%d", i), Method: zip.Deflate, CRC32: sum.Sum32(),
			CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(n) << 20})
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestSizes(t *testing.T) {
	bomb := zeros(t, 2, 125)
	if _, err := Inspect(bomb); err == nil || err.Error() != "InvalidParameterValueException: Unzipped size must be smaller than 262144000 bytes" {
		t.Errorf("a bomb of %d bytes: %v", len(bomb), err)
	}
	if _, err := unpackBytes(t, bomb); err == nil {
		t.Error("unpacked a bomb")
	}
	if info, err := Inspect(zeros(t, 3, 10)); err != nil || info.Unpacked != 30<<20 {
		t.Errorf("30 MiB of zeros: %+v, %v", info, err)
	}
	_, err := Inspect(make([]byte, lambda.MaxCodeZip+1))
	if err == nil || err.Error() != "RequestEntityTooLargeException: Zipped size must be smaller than 52428800 bytes" {
		t.Errorf("large zip: %v", err)
	}
}

// TestManyEntries: neither a directory of a million entries nor the directories that long names imply use up the machine.
func TestManyEntries(t *testing.T) {
	one := makeZip(t, item{name: "a"})
	begin, end := bytes.Index(one, []byte("PK\x01\x02")), bytes.Index(one, []byte("PK\x05\x06"))
	million := append(bytes.Clone(one[:begin]), bytes.Repeat(one[begin:end], 900_000)...)
	million = append(million, one[end:]...)
	count := million[len(million)-22:]
	binary.LittleEndian.PutUint16(count[8:], uint16(900_000%65536))
	binary.LittleEndian.PutUint16(count[10:], uint16(900_000%65536))
	binary.LittleEndian.PutUint32(count[12:], uint32(900_000*(end-begin)))
	if len(million) > lambda.MaxCodeZip {
		t.Fatalf("%d bytes", len(million))
	}
	if _, err := Inspect(million); err == nil || !strings.Contains(err.Error(), "more than 100000 entries") {
		t.Errorf("900,000 entries: %v", err)
	}
	var deep []item
	for i := range 300 {
		deep = append(deep, item{name: fmt.Sprintf("%d/%s", i, strings.Repeat("d/", 500)+"f")})
	}
	if _, err := Inspect(makeZip(t, deep...)); err == nil || !strings.Contains(err.Error(), "100000 files and directories") {
		t.Errorf("150,000 directories: %v", err)
	}
}

func TestZip(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode fs.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("main.py", "x = 1\n", 0o640)
	write("bin/run", "#!/bin/sh\n", 0o700)
	write(".git/config", "secret", 0o644)
	write("sub/.git/config", "secret", 0o644)
	if err := os.Symlink("../main.py", filepath.Join(dir, "bin/link")); err != nil {
		t.Fatal(err)
	}
	data, err := Zip(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "main.py"), time.Now(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if again, err := Zip(dir); err != nil || !bytes.Equal(data, again) {
		t.Errorf("not deterministic: %v", err)
	}
	if info, err := Inspect(data); err != nil || info.Files != 3 {
		t.Errorf("Inspect = %+v, %v", info, err)
	}
	tree, err := unpackBytes(t, data)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"main.py": "-rw-r--r--", "bin/run": "-rwxr-xr-x", "bin/link": "Lrwxrwxrwx", "sub": "drwxr-xr-x"} {
		if st, err := os.Lstat(filepath.Join(tree, name)); err != nil || st.Mode().String() != want {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if _, err := os.Stat(filepath.Join(tree, "sub/.git")); err == nil {
		t.Error(".git was packed")
	}
	single, err := Zip(filepath.Join(dir, "bin/run"))
	if err != nil {
		t.Fatal(err)
	}
	if tree, err = unpackBytes(t, single); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(tree, "run")); err != nil || st.Mode() != 0o755 {
		t.Errorf("single file: %v, %v", st, err)
	}
}

func TestZipRefuses(t *testing.T) {
	outside, empty := t.TempDir(), t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(outside, "l")); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, lambda.MaxUnpacked); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		outside: "not a relative path inside", empty: "has no files", large: "unzipped size must be smaller", "/dev/null": "not a regular file",
		filepath.Join(empty, "none"): "no such file",
	} {
		if _, err := Zip(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
	}
	b := boundedBuffer{limit: 3}
	if _, err := b.Write([]byte("four")); err == nil {
		t.Error("the buffer has no bound")
	}
}

// realistic is a zip like those people upload: n files of 8 KiB in some directories.
func realistic(t testing.TB, n int) []byte {
	t.Helper()
	items := make([]item, n)
	for i := range items {
		var b strings.Builder
		for j := 0; b.Len() < 8<<10; j++ {
			fmt.Fprintf(&b, "def function_%d_%d(x): return x * %d\n", i, j, i*j)
		}
		items[i] = item{name: fmt.Sprintf("pkg%d/mod%d.py", i/20, i), content: b.String()}
	}
	return makeZip(t, items...)
}

func BenchmarkInspect(b *testing.B) {
	data := realistic(b, 2000)
	info, err := Inspect(data)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Unpacked)
	for b.Loop() {
		if _, err := Inspect(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, n := range []int{1, 100, 2000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			data, dir, i := realistic(b, n), b.TempDir(), 0
			for b.Loop() {
				i++
				path := filepath.Join(dir, fmt.Sprint(i))
				if err := os.Mkdir(path, 0o755); err != nil {
					b.Fatal(err)
				}
				root, err := os.OpenRoot(path)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := unpack(context.Background(), bytes.NewReader(data), int64(len(data)), root); err != nil {
					b.Fatal(err)
				}
				_ = root.Close()
			}
		})
	}
}

func FuzzInspect(f *testing.F) { fuzz(f, false) }

func FuzzUnpack(f *testing.F) { fuzz(f, true) }

// fuzz: no zip makes a panic, a file outside the tree, a link that leads out of it, anything but files, directories and
// links, or more bytes than were announced; and what Inspect takes unpacks.
func fuzz(f *testing.F, write bool) {
	for _, data := range badZips(f) {
		f.Add(data)
	}
	f.Add(makeZip(f, item{name: "a/b", content: "x"}, link("a/c", "b"), link("d", "a"), link("e", "d/c"), link("loop", "loop")))
	f.Add(zeros(f, 3, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if plan, err := newPlan(bytes.NewReader(data), int64(len(data))); err == nil && plan.bytes > 8<<20 {
			t.Skip() // slow, not interesting
		}
		info, inspected := Inspect(data)
		var e *lambda.Error
		if inspected != nil && !errors.As(inspected, &e) {
			t.Fatalf("not a Lambda error: %v", inspected)
		}
		if !write {
			return
		}
		dir, err := unpackBytes(t, data)
		if (err == nil) != (inspected == nil) {
			t.Fatalf("Inspect says %v, unpack says %v", inspected, err)
		}
		checkTree(t, dir, info, err == nil)
	})
}

func checkTree(t *testing.T, dir string, info Info, whole bool) {
	t.Helper()
	if others, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(others) != 1 {
		t.Fatalf("beside the tree: %v, %v", others, err)
	}
	var size int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		switch mode := st.Mode(); {
		case mode.IsRegular() && (mode == 0o644 || mode == 0o755 || !whole):
			size += st.Size()
		case mode == fs.ModeDir|0o755:
		case mode.Type() == fs.ModeSymlink:
			size += st.Size()
			if real, err := filepath.EvalSymlinks(path); err == nil && real != dir && !strings.HasPrefix(real, dir+"/") {
				t.Errorf("%s leads to %s", path, real)
			}
		default:
			t.Errorf("%s has mode %v", path, mode)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if whole && size != info.Unpacked {
		t.Errorf("%d bytes on disk, %d announced", size, info.Unpacked)
	}
}
