package image

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"berth/lambda"
	"berth/sandbox"
	"berth/store"
)

const (
	copyBuffer = 128 << 10
	maxWindow  = 128 << 20 // memory that one zstd stream may ask for; what `zstd --ultra` makes fits
	// archiveEntry bounds what one entry adds to a layer beside its content: headers, extended headers, padding.
	archiveEntry = 4096
)

// Unpack makes the image whose manifest is digest in root, an empty directory, from what Keep stored. It returns the disk
// space that the image takes. Errors: store.ErrNotFound (wrapped) when something of the image is not among the blobs, and
// *lambda.Error (wrapped; see IsRefusal) for an image that is not to be used. After an error the directory is to be removed.
func Unpack(ctx context.Context, blobs store.Blobs, digest lambda.CodeDigest, root *os.Root, limits Limits) (int64, error) {
	limits = limits.orDefaults()
	manifest, config, err := describe(ctx, blobs, digest)
	if err != nil {
		return 0, err
	}
	if err := root.Mkdir(rootName, 0o755); err != nil {
		return 0, err
	}
	files, err := root.OpenRoot(rootName)
	if err != nil {
		return 0, err
	}
	defer files.Close()
	if err := files.Chmod(".", 0o755); err != nil { // whatever the umask
		return 0, err
	}
	u := &unpacker{root: files, left: limits.Bytes, entries: limits.Entries, buf: make([]byte, copyBuffer)}
	budget := limits.Bytes + int64(limits.Entries)*archiveEntry
	for i, l := range manifest.Layers {
		if err := u.layer(ctx, blobs, l, config.RootFS.DiffIDs[i], &budget); err != nil {
			return 0, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	if err := u.complete(); err != nil {
		return 0, fmt.Errorf("complete the image for sandboxes: %w", err)
	}
	text, err := json.Marshal(settingsOf(config))
	if err != nil {
		return 0, err
	}
	return u.used + blockSize, root.WriteFile(settingsName, text, 0o644)
}

// describe reads an image's manifest and configuration from the blobs.
func describe(ctx context.Context, blobs store.Blobs, digest lambda.CodeDigest) (*v1.Manifest, *v1.ConfigFile, error) {
	text, err := document(ctx, blobs, digest)
	if err != nil {
		return nil, nil, fmt.Errorf("the image's manifest: %w", err)
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(text))
	if err != nil {
		return nil, nil, refuse("its manifest is not one (%v).", err)
	}
	if text, err = document(ctx, blobs, lambda.CodeDigest(manifest.Config.Digest.Hex)); err != nil {
		return nil, nil, fmt.Errorf("the image's configuration: %w", err)
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(text))
	if err != nil {
		return nil, nil, refuse("its configuration is not one (%v).", err)
	}
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) || len(manifest.Layers) > maxLayers {
		return nil, nil, refuse("its manifest has %d layers and its configuration %d; expected the same number, at most %d.",
			len(manifest.Layers), len(config.RootFS.DiffIDs), maxLayers)
	}
	return manifest, config, nil
}

func document(ctx context.Context, blobs store.Blobs, digest lambda.CodeDigest) ([]byte, error) {
	blob, err := blobs.Open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer blob.Close()
	return readDocument(blob)
}

// layer decompresses one layer, puts it over the others, and checks that it was the one that the configuration means.
func (u *unpacker) layer(ctx context.Context, blobs store.Blobs, l v1.Descriptor, diffID v1.Hash, budget *int64) error {
	blob, err := blobs.Open(ctx, lambda.CodeDigest(l.Digest.Hex))
	if err != nil {
		return err
	}
	defer blob.Close()
	from := &source{Reader: blob}
	plain, done, err := decompress(from)
	if err != nil {
		return err
	}
	defer done()
	counted := &bounded{r: plain, from: from, left: budget, sum: sha256.New()}
	if err := u.apply(ctx, counted); err != nil {
		return err
	}
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{counted}, u.buf); err != nil { // what pads the archive
		return err
	}
	if _, err := io.Copy(io.Discard, from); err != nil { // the store verifies at the end
		return err
	}
	if got := hex.EncodeToString(counted.sum.Sum(nil)); diffID.Algorithm != "sha256" || got != diffID.Hex {
		return refuse("a layer's content has the digest %s, its configuration says %s.", got, diffID)
	}
	return nil
}

// bounded counts, digests, and stops at a bound that all layers of an image share.
type bounded struct {
	r    io.Reader
	from *source // below r
	left *int64
	sum  hash.Hash
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if *b.left -= int64(n); *b.left < 0 {
		return 0, refuse("its layers are larger than is allowed.")
	}
	b.sum.Write(p[:n])
	if err != nil && !errors.Is(err, io.EOF) && (b.from.err == nil || errors.Is(b.from.err, io.EOF)) {
		err = refuse("a layer cannot be decompressed (%v).", err)
	}
	return n, err
}

// source remembers how reading ended, to tell damaged data from a failing disk or network.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil {
		s.err = err
	}
	return n, err
}

// decompress goes by the content, not by what the manifest says it is.
func decompress(r io.Reader) (plain io.Reader, done func(), err error) {
	b := bufio.NewReaderSize(r, copyBuffer)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, nil, refuse("a layer cannot be decompressed (%v).", err)
		}
		return z, func() { z.Close() }, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, refuse("a layer cannot be decompressed (%v).", err)
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
}

// complete adds what a sandbox's user needs to be somebody: Lambda does the same to the images that it runs.
func (u *unpacker) complete() error {
	user := fmt.Sprintf("%s:x:%d:%d::/home/%[1]s:/sbin/nologin\n", sandbox.UserName, sandbox.UserID, sandbox.GroupID)
	group := fmt.Sprintf("%s:x:%d:\n", sandbox.UserName, sandbox.GroupID)
	for _, f := range []struct {
		name, line string
		always     bool // added to what is there, not only written where there is nothing
	}{
		{"etc/passwd", user, true},
		{"etc/group", group, true},
		{"etc/hosts", "127.0.0.1 localhost localhost.localdomain\n::1 localhost\n169.254.100.1 sandbox.localdomain sandbox\n", false},
		{"etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n", false},
		{"etc/resolv.conf", "# This sandbox has no network.\n", false},
	} {
		if err := u.addLine(f.name, f.line, f.always); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

func (u *unpacker) addLine(name, line string, always bool) error {
	dir, err := u.parent(path.Dir(name))
	if err != nil {
		return err
	}
	at := path.Join(dir, path.Base(name))
	var text []byte
	real, info, err := follow(u.root, at, true)
	if err == nil && info != nil && info.Mode().IsRegular() && info.Size() <= maxDocument {
		if text, err = u.root.ReadFile(real); err != nil {
			return err
		}
	}
	if len(text) > 0 && (!always || bytes.Contains(text, []byte(sandbox.UserName+":"))) {
		return nil
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	if err := u.root.RemoveAll(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := u.root.WriteFile(at, append(text, line...), 0o644); err != nil {
		return err
	}
	return u.root.Chmod(at, 0o644)
}
