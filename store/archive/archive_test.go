package archive

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"berth/lambda"
	"berth/store"
	"berth/store/memory"
)

// filled returns stores with n records and blobs of several sizes.
func filled(t *testing.T, n int) (*memory.Catalog, *memory.Blobs, []lambda.CodeDigest) {
	t.Helper()
	c, b := memory.NewCatalog(), memory.NewBlobs()
	for i := range n {
		if _, err := c.Apply(t.Context(), store.Put(store.Key(fmt.Sprintf("api/function/%d", i)), fmt.Appendf(nil, "value %d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Apply(t.Context(), store.Put("api/empty", []byte{}), store.Put("control/leader", []byte("x"))); err != nil {
		t.Fatal(err)
	}
	var digests []lambda.CodeDigest
	for _, size := range []int{0, 1, 300_000} {
		d, _, err := b.Put(t.Context(), strings.NewReader(strings.Repeat("b", size)))
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
	}
	return c, b, digests
}

func keepAPI(k store.Key) bool { return strings.HasPrefix(string(k), "api/") }

func export(t *testing.T, n int) (archive []byte, counts Counts, digests []lambda.CodeDigest) {
	t.Helper()
	c, b, digests := filled(t, n)
	var out bytes.Buffer
	counts, err := Export(t.Context(), c, b, keepAPI, &out)
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), counts, digests
}

func TestWhatIsExportedIsImported(t *testing.T) {
	const records = 3*batchOps + 7
	archive, counts, digests := export(t, records)
	if want := (Counts{records + 1, 3, 300_001}); counts != want {
		t.Fatalf("exported %+v, want %+v", counts, want)
	}
	c, b := memory.NewCatalog(), memory.NewBlobs()
	if _, err := c.Apply(t.Context(), store.Put("api/function/1", []byte("older")), store.Put("own", []byte("stays"))); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again does no harm
		if got, err := Import(t.Context(), c, b, bytes.NewReader(archive)); err != nil || got != counts {
			t.Fatalf("imported %+v, %v", got, err)
		}
	}
	for key, want := range map[store.Key]string{"api/function/0": "value 0", "api/function/1": "value 1", "api/function/306": "value 306", "api/empty": "", "own": "stays"} {
		if e, err := c.Get(t.Context(), key); err != nil || string(e.Value) != want {
			t.Errorf("%s is %q, %v", key, e.Value, err)
		}
	}
	if _, err := c.Get(t.Context(), "control/leader"); err == nil {
		t.Error("a record that was not to be kept came along")
	}
	for _, d := range digests {
		r, err := b.Open(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
	}
}

// TestDamagedArchivesAreRefused: wherever it is cut off or changed, the importer says so.
func TestDamagedArchivesAreRefused(t *testing.T) {
	archive, _, _ := export(t, 5)
	ended := bytes.Index(archive, []byte(`{"records":`))
	for at := 0; at < ended; at += 509 {
		if _, err := Import(t.Context(), memory.NewCatalog(), memory.NewBlobs(), bytes.NewReader(archive[:at])); err == nil {
			t.Fatalf("cut off at %d of %d: no error", at, len(archive))
		}
	}
	for what, change := range map[string][2]string{
		"is no archive": {headName, "something-els"},
		"have digest":   {"bbbb", "bbcb"},
		"format 7":      {`{"format":1`, `{"format":7`},
		"says that":     {`{"records":6`, `{"records":5`},
		"invalid":       {"record/api/empty", "record/api.empty"},
	} {
		bad := bytes.Replace(archive, []byte(change[0]), []byte(change[1]), 1)
		if bytes.Equal(bad, archive) {
			t.Fatalf("%q is not in the archive", change[0])
		}
		if what == "is no archive" || what == "invalid" {
			bad = resum(bad, change[1])
		}
		if _, err := Import(t.Context(), memory.NewCatalog(), memory.NewBlobs(), bytes.NewReader(bad)); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%q for %q gives %v, want %q in it", change[1], change[0], err, what)
		}
	}
}

// resum corrects the checksum of the tar header that begins with name.
func resum(archive []byte, name string) []byte {
	at := bytes.Index(archive, []byte(name))
	header := archive[at : at+512]
	copy(header[148:156], "        ")
	sum := 0
	for _, c := range header {
		sum += int(c)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return archive
}

func FuzzImport(f *testing.F) {
	f.Add([]byte("berth-archive"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = Import(t.Context(), memory.NewCatalog(), memory.NewBlobs(), bytes.NewReader(data))
	})
}
