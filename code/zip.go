package code

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"berth/lambda"
)

// zipTime is the modification time of everything that Zip packs: the same content gives the same bytes.
var zipTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Zip packs a directory (its content at the root of the zip) or a single file, deterministically: sorted, with fixed times
// and modes 0755 for what its owner may run and 0644 for the rest. Directories named .git are left out. Symbolic links are
// kept as links; one that leads out of the directory is an error, and so are other special files, more than
// lambda.MaxUnpacked bytes of files, and a zip of more than lambda.MaxCodeZip bytes.
func Zip(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("zip: %w", err)
	}
	out := &boundedBuffer{limit: lambda.MaxCodeZip}
	p := packer{zip: zip.NewWriter(out), left: lambda.MaxUnpacked - 1}
	if info.IsDir() {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			err = p.addTree(path)
		}
	} else {
		err = p.addFile(path, filepath.Base(path), info)
	}
	if err == nil && p.files == 0 {
		err = fmt.Errorf("the directory %s has no files", path)
	}
	if err == nil {
		err = p.zip.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("zip: %w", err)
	}
	return out.Bytes(), nil
}

var errUnzipped = fmt.Errorf("unzipped size must be smaller than %d bytes", lambda.MaxUnpacked)

type packer struct {
	zip   *zip.Writer
	left  int64 // bytes of files that may still come
	files int
}

func (p *packer) addTree(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case entry.IsDir() && entry.Name() == ".git":
			return filepath.SkipDir
		case entry.IsDir():
			_, err = p.zip.CreateHeader(header(name+"/", fs.ModeDir|dirMode))
			return err
		case entry.Type() == fs.ModeSymlink:
			return p.addLink(path, name)
		}
		return p.addFile(path, name, info)
	})
}

func header(name string, mode fs.FileMode) *zip.FileHeader {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: zipTime}
	if mode.IsDir() {
		h.Method = zip.Store
	}
	h.SetMode(mode)
	return h
}

func (p *packer) addLink(path, name string) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	target = filepath.ToSlash(target)
	if !targetStaysInside(name, target) {
		return fmt.Errorf("the symbolic link %s leads to %s, which is not a relative path inside the directory", path, target)
	}
	return p.add(header(name, fs.ModeSymlink|0o777), bytes.NewReader([]byte(target)))
}

func (p *packer) addFile(path, name string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file, a directory or a symbolic link", path)
	}
	if _, err := cleanName(name); err != nil {
		return fmt.Errorf("the name %q cannot be used in a function's zip", name)
	}
	if info.Size() > p.left {
		return errUnzipped
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	mode := fs.FileMode(fileMode)
	if info.Mode()&0o100 != 0 {
		mode = execMode
	}
	return p.add(header(name, mode), f)
}

func (p *packer) add(h *zip.FileHeader, content io.Reader) error {
	w, err := p.zip.CreateHeader(h)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, io.LimitReader(content, p.left+1)) // the file may grow meanwhile
	if err != nil {
		return err
	}
	if p.left -= n; p.left < 0 {
		return errUnzipped
	}
	if p.files++; p.files > maxNodes {
		return fmt.Errorf("a function may have at most %d files", maxNodes)
	}
	return nil
}

// boundedBuffer is a bytes.Buffer with an end.
type boundedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.limit {
		return 0, fmt.Errorf("zipped size must be smaller than %d bytes", b.limit)
	}
	return b.Buffer.Write(p)
}
