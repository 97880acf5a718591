package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"berth/apiserver"
	"berth/image"
	"berth/lambda"
	"berth/runtimes"
	"berth/store"
)

// images brings container images from where they are to the blobs, for functions and as versions of runtimes.
type images struct {
	sources *image.Sources
	blobs   store.Blobs
	limits  image.Limits
	temp    string // where a new version of a runtime is unpacked once, to look at it
	log     *slog.Logger
}

func newImages(cfg Config, blobs store.Blobs, data *dataDir) (*images, error) {
	temp := data.join("images-tmp")
	if err := os.RemoveAll(temp); err != nil { // what a killed server left
		return nil, err
	}
	if err := os.MkdirAll(temp, 0o700); err != nil {
		return nil, err
	}
	return &images{
		sources: image.New(image.Config{Dirs: cfg.ImageDirs, Plain: cfg.PlainRegistries, Temp: temp}),
		blobs:   blobs, limits: image.Limits{Bytes: cfg.ImageBytes}, temp: temp, log: cfg.Log,
	}, nil
}

// unpacker is a worker's way to images.
func unpacker(blobs store.Blobs, limits image.Limits) func(context.Context, lambda.CodeDigest, *os.Root) (int64, error) {
	return func(ctx context.Context, digest lambda.CodeDigest, root *os.Root) (int64, error) {
		return image.Unpack(ctx, blobs, digest, root, limits)
	}
}

// Resolve implements apiserver.Images: it finds out which image a reference means now.
func (i *images) Resolve(ctx context.Context, ref, architecture string) (apiserver.ResolvedImage, error) {
	opened, err := i.sources.Open(ctx, ref, architecture)
	if err != nil {
		return apiserver.ResolvedImage{}, err
	}
	defer opened.Close()
	return apiserver.ResolvedImage{Reference: opened.Resolved, Digest: opened.Digest}, nil
}

// fetch stores a function's image, unless it is.
func (i *images) fetch(ctx context.Context, v *lambda.Version) error {
	if there, err := image.Kept(ctx, i.blobs, v.Code); there || err != nil {
		return err
	}
	architecture := "x86_64"
	if runtime.GOARCH == "arm64" {
		architecture = "arm64"
	}
	opened, err := i.sources.Open(ctx, v.Image.Resolved, architecture)
	if err != nil {
		return err
	}
	defer opened.Close()
	if _, err := image.Keep(ctx, i.blobs, opened.Image, i.limits); err != nil {
		return fmt.Errorf("fetch image %s: %w", v.Image.Resolved, err)
	}
	return nil
}

// Release implements apiserver.Images: it makes an image the next version of a runtime, by adding Berth's bootstrap and the
// recipe to boot it, and stores that.
func (i *images) Release(ctx context.Context, name, from string) (lambda.RuntimeRelease, error) {
	architecture := "x86_64"
	if runtime.GOARCH == "arm64" {
		architecture = "arm64"
	}
	opened, err := i.sources.Open(ctx, from, architecture)
	if err != nil {
		return lambda.RuntimeRelease{}, err
	}
	defer opened.Close()
	if _, err := image.Keep(ctx, i.blobs, opened.Image, i.limits); err != nil {
		return lambda.RuntimeRelease{}, err
	}
	release, err := i.inspect(ctx, name, opened.Digest)
	if err != nil {
		return lambda.RuntimeRelease{}, err
	}
	label, err := release.Label()
	if err != nil {
		return lambda.RuntimeRelease{}, err
	}
	made, err := image.Add(opened.Image, release.Files, runtimes.ReleaseLabel, label)
	if err != nil {
		return lambda.RuntimeRelease{}, err
	}
	size, err := image.Keep(ctx, i.blobs, made, i.limits)
	if err != nil {
		return lambda.RuntimeRelease{}, err
	}
	digest, err := made.Digest()
	if err != nil {
		return lambda.RuntimeRelease{}, err
	}
	return lambda.RuntimeRelease{ID: lambda.RuntimeVersionID(digest.Hex), Source: opened.Resolved, Bytes: size}, nil
}

// inspect unpacks an image, which shows that workers can, and looks for what the runtime needs.
func (i *images) inspect(ctx context.Context, name string, digest lambda.CodeDigest) (*runtimes.Release, error) {
	dir, err := os.MkdirTemp(i.temp, "release-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := os.RemoveAll(dir); err != nil {
			i.log.Warn("an unpacked image could not be removed; the next start does it", "directory", dir, "error", err)
		}
	}()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if _, err := image.Unpack(ctx, i.blobs, digest, root, i.limits); err != nil {
		return nil, err
	}
	if _, err := image.Mounts(dir, "/var/task", "/opt"); err != nil {
		return nil, err
	}
	return runtimes.NewRelease(name, func(path string) bool {
		_, err := image.Lookup(dir, path, "/", "")
		return err == nil
	})
}
