package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth/lambda"
	"berth/store"
)

// Keep stores an image among the blobs, from where Unpack takes it: layers, configuration, and last the manifest, so that
// who finds the manifest finds all. What is there already is not read again. It returns the sum of the layers' sizes as they
// are stored. Errors: *lambda.Error for an image that is not to be used, store.ErrFull.
func Keep(ctx context.Context, blobs store.Blobs, img v1.Image, limits Limits) (int64, error) {
	limits = limits.orDefaults()
	manifest, err := img.Manifest()
	if err != nil {
		return 0, err
	}
	var total int64
	for _, l := range manifest.Layers {
		if l.Size < 0 || l.Size > limits.Bytes-total {
			return 0, refuse("its layers are larger than %d bytes.", limits.Bytes)
		}
		total += l.Size
	}
	for _, l := range manifest.Layers {
		if err := keepLayer(ctx, blobs, img, l); err != nil {
			return 0, fmt.Errorf("layer %s: %w", l.Digest, err)
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return 0, err
	}
	if err := keep(ctx, blobs, manifest.Config.Digest, bytes.NewReader(config)); err != nil {
		return 0, fmt.Errorf("configuration: %w", err)
	}
	text, err := img.RawManifest()
	if err != nil {
		return 0, err
	}
	digest, err := img.Digest()
	if err != nil {
		return 0, err
	}
	return total, keep(ctx, blobs, digest, bytes.NewReader(text))
}

// Kept reports whether the image whose manifest is digest has been stored.
func Kept(ctx context.Context, blobs store.Blobs, digest lambda.CodeDigest) (bool, error) {
	blob, err := blobs.Open(ctx, digest)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, blob.Close()
}

func keepLayer(ctx context.Context, blobs store.Blobs, img v1.Image, l v1.Descriptor) error {
	if l.Digest.Algorithm != "sha256" || len(l.URLs) > 0 || !l.MediaType.IsDistributable() {
		return refuse("a layer of it is not in its registry, or is named by something else than a SHA-256.")
	}
	if there, err := Kept(ctx, blobs, lambda.CodeDigest(l.Digest.Hex)); there || err != nil {
		return err
	}
	layer, err := img.LayerByDigest(l.Digest)
	if err != nil {
		return err
	}
	r, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer r.Close()
	return keep(ctx, blobs, l.Digest, &exactly{r: r, left: l.Size})
}

// keep stores what must have this digest.
func keep(ctx context.Context, blobs store.Blobs, want v1.Hash, r io.Reader) error {
	got, _, err := blobs.Put(ctx, r)
	if err != nil {
		return err
	}
	if string(got) != want.Hex {
		return refuse("its content does not have the digest %s that it is named by.", want) // what was stored is nobody's then
	}
	return nil
}

// exactly fails on more than was announced.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if e.left -= int64(n); e.left < 0 {
		return 0, refuse("a layer is larger than its manifest says.")
	}
	return n, err
}
