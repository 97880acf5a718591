package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// layoutFile is what an OCI layout holds; other names in an archive are passed over.
var layoutFile = regexp.MustCompile(`^(oci-layout|index\.json|blobs/sha256/[0-9a-f]{64})$`)

// fromArchive reads a tar archive: what `docker save` makes, or an OCI layout.
func fromArchive(ctx context.Context, file, temp string, platform v1.Platform, done *func()) (v1.Image, error) {
	kinds, err := archiveKinds(ctx, file)
	switch {
	case err != nil:
		return nil, err
	case kinds["index.json"] && kinds["oci-layout"]: // of newer Docker versions too
		dir, err := os.MkdirTemp(temp, "berth-image-")
		if err != nil {
			return nil, err
		}
		*done = func() { os.RemoveAll(dir) }
		if err := extractLayout(ctx, file, dir); err != nil {
			return nil, err
		}
		return fromLayout(dir, "", platform)
	case kinds["manifest.json"]:
		return tarball.ImageFromPath(file, nil)
	}
	return nil, refuse("the archive is neither one of `docker save` nor an OCI layout; a compressed one must be decompressed first.")
}

// archiveKinds looks for the names that tell what an archive is.
func archiveKinds(ctx context.Context, file string) (map[string]bool, error) {
	kinds := map[string]bool{}
	err := eachEntry(ctx, file, func(name string, _ *tar.Header, _ io.Reader) error {
		switch name {
		case "oci-layout", "index.json", "manifest.json":
			kinds[name] = true
		}
		return nil
	})
	return kinds, err
}

// eachEntry calls f with the regular files of an archive.
func eachEntry(ctx context.Context, file string, f func(name string, h *tar.Header, content io.Reader) error) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	entries := tar.NewReader(in)
	for n := 0; ; n++ {
		h, err := entries.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, tar.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF):
			return refuse("the file is not a tar archive, or not a whole one; a compressed one must be decompressed first.")
		case err != nil:
			return err
		case n > DefaultEntries:
			return refuse("the archive has more than %d entries.", DefaultEntries)
		case ctx.Err() != nil:
			return ctx.Err()
		case h.Typeflag != tar.TypeReg:
			continue
		}
		if err := f(strings.TrimPrefix(h.Name, "./"), h, entries); err != nil {
			return err
		}
	}
}

// extractLayout writes an archive's layout to dir. Names are of a closed form, and none is written twice.
func extractLayout(ctx context.Context, file, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		return err
	}
	left := int64(DefaultBytes)
	return eachEntry(ctx, file, func(name string, h *tar.Header, content io.Reader) error {
		if !layoutFile.MatchString(name) {
			return nil
		}
		if left -= h.Size; left < 0 {
			return refuse("the archive holds more than %d bytes.", int64(DefaultBytes))
		}
		out, err := os.OpenFile(filepath.Join(dir, filepath.FromSlash(name)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return refuse("the archive has the file %s twice.", name)
		}
		if err != nil {
			return err
		}
		_, err = io.Copy(out, content)
		return errors.Join(err, out.Close())
	})
}

// fromDir makes an image of one layer out of a directory.
func fromDir(dir string, platform v1.Platform) (v1.Image, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, refuse("%s is not a directory.", dir)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		r, w := io.Pipe()
		go func() { w.CloseWithError(writeDir(dir, w)) }() // ends when the reader is closed: every write fails then
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(img, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, RootFS: rootFS(img),
	})
}

func rootFS(img v1.Image) v1.RootFS {
	config, err := img.ConfigFile()
	if err != nil {
		return v1.RootFS{}
	}
	return config.RootFS
}

// writeDir writes a directory as a tar archive that is the same whenever the directory is. Links are kept as they are.
func writeDir(dir string, w io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	out := tar.NewWriter(w)
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return writeEntry(root, out, name, info)
	})
	if err != nil {
		return err
	}
	return out.Close()
}

func writeEntry(root *os.Root, out *tar.Writer, name string, info fs.FileInfo) error {
	var target string
	var err error
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		if target, err = root.Readlink(name); err != nil {
			return err
		}
	case !info.IsDir() && !info.Mode().IsRegular():
		return nil
	}
	h := &tar.Header{Name: name, Linkname: target, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().UTC().Truncate(1e9), Typeflag: tar.TypeReg}
	switch {
	case target != "":
		h.Typeflag = tar.TypeSymlink
	case info.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	default:
		h.Size = info.Size()
	}
	if err := out.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(out, f)
	return err
}
