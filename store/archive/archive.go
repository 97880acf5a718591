// Package archive writes the content of both ports of store to one file, and reads it back into others: the way from one
// machine to a cluster, and a backup.
//
// The file is a tar archive. It begins with the entry "berth-archive" (JSON: the format), goes on with "blob/DIGEST" and
// "record/KEY" entries, blobs first since records name them, and ends with "end" (JSON: how many there were of each):
// without it the file is cut off. It holds access keys: keep it like one.
package archive

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"berth/lambda"
	"berth/store"
)

const (
	headName   = "berth-archive"
	endName    = "end"
	blobPrefix = "blob/"
	keyPrefix  = "record/"
	format     = 1

	// What is written to a catalog at one time.
	batchOps   = 100
	batchBytes = 4 << 20

	// readLimit bounds how long the reading of the catalog may take to begin.
	readLimit = 5 * time.Minute
)

// Counts says what an archive holds.
type Counts struct {
	Records int   `json:"records"`
	Blobs   int   `json:"blobs"`
	Bytes   int64 `json:"bytes"` // of the blobs
}

type head struct {
	Format int       `json:"format"`
	Made   time.Time `json:"made"`
}

// Export writes all records that keep accepts, and all blobs. It is a copy of one moment as far as records go; blobs that
// are stored meanwhile may be missing, so a server that is written to should be told to stop first.
func Export(ctx context.Context, catalog store.Catalog, blobs store.Blobs, keep func(store.Key) bool, w io.Writer) (Counts, error) {
	var counts Counts
	records, err := snapshot(ctx, catalog, keep) // before the blobs: those that they name are stored already
	if err != nil {
		return counts, err
	}
	out := tar.NewWriter(w)
	if err := putJSON(out, headName, head{format, time.Now().UTC()}); err != nil {
		return counts, err
	}
	var all []store.BlobInfo
	if err := blobs.List(ctx, func(info store.BlobInfo) error { all = append(all, info); return nil }); err != nil {
		return counts, fmt.Errorf("listing the blobs: %w", err)
	}
	for _, info := range all {
		switch err := putBlob(ctx, out, blobs, info); {
		case errors.Is(err, store.ErrNotFound): // deleted meanwhile
		case err != nil:
			return counts, fmt.Errorf("blob %s: %w", info.Digest, err)
		default:
			counts.Blobs, counts.Bytes = counts.Blobs+1, counts.Bytes+info.Size
		}
	}
	for _, r := range records {
		if err := put(out, keyPrefix+string(r.Key), r.Value); err != nil {
			return counts, err
		}
		counts.Records++
	}
	if err := putJSON(out, endName, counts); err != nil {
		return counts, err
	}
	return counts, out.Close()
}

// snapshot returns the records of one moment.
func snapshot(ctx context.Context, catalog store.Catalog, keep func(store.Key) bool) ([]store.Entry, error) {
	ctx, stop := context.WithTimeout(ctx, readLimit)
	defer stop()
	var records []store.Entry
	complete := false
	err := catalog.Watch(ctx, "", func(e store.Entry) {
		if !complete && e.Value != nil && keep(e.Key) {
			records = append(records, e)
		}
	}, func(store.Revision) { complete = true; stop() })
	if !complete {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	return records, nil
}

func putBlob(ctx context.Context, out *tar.Writer, blobs store.Blobs, info store.BlobInfo) error {
	r, err := blobs.Open(ctx, info.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := out.WriteHeader(header(blobPrefix+string(info.Digest), info.Size)); err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return err
}

func putJSON(out *tar.Writer, name string, value any) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return put(out, name, content)
}

func put(out *tar.Writer, name string, content []byte) error {
	if err := out.WriteHeader(header(name, int64(len(content)))); err != nil {
		return err
	}
	_, err := out.Write(content)
	return err
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, Format: tar.FormatPAX}
}

// Import reads an archive into a catalog and blobs: records are written over those that are there. An archive that is cut
// off or damaged gives an error, after which some of it may have been written; importing the whole one makes up for that.
func Import(ctx context.Context, catalog store.Catalog, blobs store.Blobs, r io.Reader) (Counts, error) {
	i := &importer{catalog: catalog, blobs: blobs, in: tar.NewReader(r)}
	if err := i.head(); err != nil {
		return i.counts, err
	}
	for {
		entry, err := i.in.Next()
		if err != nil {
			return i.counts, fmt.Errorf("the archive is cut off or damaged: %w", noEOF(err))
		}
		name, kind := entry.Name, ""
		for _, prefix := range []string{blobPrefix, keyPrefix} {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				name, kind = rest, prefix
			}
		}
		switch {
		case entry.Typeflag != tar.TypeReg:
			err = fmt.Errorf("the archive's entry %q is no file", entry.Name)
		case kind == blobPrefix:
			err = i.blob(ctx, lambda.CodeDigest(name), entry.Size)
		case kind == keyPrefix:
			err = i.record(ctx, store.Key(name), entry.Size)
		case name == endName:
			return i.counts, i.end(ctx, entry.Size)
		default:
			err = fmt.Errorf("the archive's entry %q is of no known kind", entry.Name)
		}
		if err != nil {
			return i.counts, err
		}
	}
}

type importer struct {
	catalog store.Catalog
	blobs   store.Blobs
	in      *tar.Reader
	counts  Counts
	ops     []store.Op // not written yet
	bytes   int        // of these
}

func (i *importer) head() error {
	entry, err := i.in.Next()
	if err != nil || entry.Name != headName {
		return errors.Join(errors.New("this is no archive of `berth cluster export`"), noEOF(err))
	}
	var h head
	if err := i.json(entry.Size, &h); err != nil {
		return err
	}
	if h.Format != format {
		return fmt.Errorf("the archive has format %d, this program knows %d", h.Format, format)
	}
	return nil
}

func (i *importer) json(size int64, into any) error {
	content, err := i.content(size)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("the archive is damaged: %w", err)
	}
	return nil
}

func (i *importer) content(size int64) ([]byte, error) {
	if size > store.MaxValue {
		return nil, fmt.Errorf("an entry of the archive has %d bytes, expected at most %d", size, store.MaxValue)
	}
	content := make([]byte, size) // not nil: an empty record is not a deletion
	if _, err := io.ReadFull(i.in, content); err != nil {
		return nil, fmt.Errorf("the archive is cut off or damaged: %w", noEOF(err))
	}
	return content, nil
}

func (i *importer) blob(ctx context.Context, want lambda.CodeDigest, size int64) error {
	got, _, err := i.blobs.Put(ctx, i.in)
	if err != nil {
		return fmt.Errorf("blob %s: %w", want, noEOF(err))
	}
	if got != want {
		return errors.Join(fmt.Errorf("blob %s of the archive is damaged: its bytes have digest %s", want, got), i.blobs.Delete(ctx, got))
	}
	i.counts.Blobs, i.counts.Bytes = i.counts.Blobs+1, i.counts.Bytes+size
	return nil
}

func (i *importer) record(ctx context.Context, key store.Key, size int64) error {
	value, err := i.content(size)
	if err != nil {
		return err
	}
	op := store.Put(key, value)
	if err := store.CheckOps([]store.Op{op}); err != nil {
		return fmt.Errorf("a record of the archive: %w", err)
	}
	if len(i.ops) >= batchOps || i.bytes+len(value) > batchBytes {
		if err := i.flush(ctx); err != nil {
			return err
		}
	}
	i.ops, i.bytes = append(i.ops, op), i.bytes+len(value)
	i.counts.Records++
	return nil
}

func (i *importer) flush(ctx context.Context) error {
	if len(i.ops) == 0 {
		return nil
	}
	if _, err := i.catalog.Apply(ctx, i.ops...); err != nil {
		return fmt.Errorf("writing records, beginning with %q: %w", i.ops[0].Key, err)
	}
	i.ops, i.bytes = i.ops[:0], 0
	return nil
}

func (i *importer) end(ctx context.Context, size int64) error {
	var want Counts
	if err := i.json(size, &want); err != nil {
		return err
	}
	if want != i.counts {
		return fmt.Errorf("the archive is damaged: it holds %+v, and says that it should hold %+v", i.counts, want)
	}
	return i.flush(ctx)
}

// noEOF makes the end of a file that should go on an unexpected one.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
