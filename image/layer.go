package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Marks of deleted files in layers (OCI image specification, "Whiteouts").
const (
	whiteout       = ".wh."
	opaque         = ".wh..wh..opq"
	whiteoutSystem = ".wh..wh." // beginning of aufs's own files
)

const blockSize = 4096 // what one file or directory takes at least, in the account of disk space

// Times outside this range are brought to its ends: the last keeps 32-bit readers right.
var (
	earliest = time.Unix(0, 0)
	latest   = time.Date(2038, 1, 1, 0, 0, 0, 0, time.UTC)
)

// unpacker puts layers over one another in root.
type unpacker struct {
	root    *os.Root
	left    int64 // bytes of files that may still come
	entries int   // that may still come
	used    int64 // disk space

	name  string // of the directory that was used last, as the layer writes it; "" for none
	real  string // the same without links
	made  map[string]bool
	buf   []byte
	fresh bool // name and real hold still
}

// apply puts one layer over what is there.
func (u *unpacker) apply(ctx context.Context, layer io.Reader) error {
	u.made = make(map[string]bool)
	entries := tar.NewReader(layer)
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, io.ErrUnexpectedEOF) {
				return refuse("a layer is not a whole tar archive (%v).", err)
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if u.entries--; u.entries < 0 {
			return refuse("it has more files than are allowed.")
		}
		if err := u.entry(h, entries); err != nil {
			return fmt.Errorf("entry %.100q: %w", h.Name, err)
		}
	}
}

// entry puts one entry in its place.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := cleanName(h.Name)
	if err != nil || name == "." {
		return err
	}
	base := path.Base(name)
	dir, err := u.parent(path.Dir(name))
	if err != nil {
		return err
	}
	at := path.Join(dir, base)
	switch {
	case base == opaque:
		return u.clear(dir)
	case strings.HasPrefix(base, whiteoutSystem):
		return nil
	case strings.HasPrefix(base, whiteout):
		return u.hide(dir, strings.TrimPrefix(base, whiteout))
	}
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.directory(at, h)
	case tar.TypeReg, '\x00', tar.TypeGNUSparse: // archive/tar gives 0 for what old archives call a file
		err = u.file(at, h, content)
	case tar.TypeSymlink:
		err = u.symlink(at, h.Linkname)
	case tar.TypeLink:
		err = u.hardlink(at, h.Linkname)
	default:
		return nil // devices and named pipes: sandboxes have their own
	}
	if err == nil {
		u.mark(at)
	}
	return err
}

// cleanName returns an entry's path below the root; "." is the root.
func cleanName(name string) (string, error) {
	if len(name) > maxName || strings.ContainsRune(name, 0) {
		return "", refuse("a file's name has more than %d bytes or a zero byte.", maxName)
	}
	depth := 0
	for segment := range strings.SplitSeq(name, "/") {
		if segment == ".." {
			return "", refuse("a file's name leads out of it.")
		}
		if len(segment) > maxSegment {
			return "", refuse("a file's name has a part of more than %d bytes.", maxSegment)
		}
		depth++
	}
	if depth > maxDepth {
		return "", refuse("a file lies more than %d directories deep.", maxDepth)
	}
	return path.Join(".", path.Clean("/" + name)[1:]), nil
}

// parent finds the directory that an entry goes to, through links, and makes what is missing.
func (u *unpacker) parent(name string) (string, error) {
	if u.fresh && name == u.name {
		return u.real, nil
	}
	real, info, err := follow(u.root, name, true)
	switch {
	case err != nil:
		return "", refuse("directory %.100q cannot be reached (%v).", name, err)
	case info == nil:
		if err := u.root.MkdirAll(path.Join(".", real), 0o755); err != nil {
			return "", refuse("directory %.100q cannot be made (%v).", name, err)
		}
		u.used += blockSize
	case !info.IsDir():
		return "", refuse("%.100q is used as a directory and is none.", name)
	}
	u.name, u.real, u.fresh = name, real, true
	return real, nil
}

// mark notes that a name, and so its directories, are this layer's.
func (u *unpacker) mark(name string) {
	for ; name != "." && name != "" && !u.made[name]; name = path.Dir(name) {
		u.made[name] = true
	}
}

// hide removes a name of the layers below.
func (u *unpacker) hide(dir, base string) error {
	if base == "" || base == "." || base == ".." {
		return refuse("a mark of a deleted file names none.")
	}
	at := path.Join(dir, base)
	if u.made[at] {
		return nil
	}
	return u.remove(at)
}

func (u *unpacker) remove(name string) error {
	u.fresh = false
	return u.root.RemoveAll(name)
}

// entriesOf returns what is in a directory, in no order.
func entriesOf(root *os.Root, dir string) ([]fs.DirEntry, error) {
	d, err := root.Open(path.Join(".", dir))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1)
}

// clear removes from a directory all that is not this layer's.
func (u *unpacker) clear(dir string) error {
	entries, err := entriesOf(u.root, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		at := path.Join(dir, e.Name())
		switch {
		case !u.made[at]:
			err = u.remove(at)
		case e.IsDir():
			err = u.clear(at)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// free removes what is at name, so that something else can be there. It reports whether a directory stays.
func (u *unpacker) free(name string, keepDir bool) (kept bool, err error) {
	info, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case info.IsDir() && keepDir:
		return true, nil
	}
	return false, u.remove(name)
}

func (u *unpacker) directory(at string, h *tar.Header) error {
	kept, err := u.free(at, true)
	if err == nil && !kept {
		u.used += blockSize
		err = u.root.Mkdir(at, 0o700)
	}
	if err != nil {
		return err
	}
	return u.root.Chmod(at, dirMode(h.Mode))
}

// The sandbox's one user is neither the owner nor in the group of an image's files, as those run in a container. So everybody
// may do what the owner may, but write; nothing keeps set-user-id, set-group-id or the sticky bit.
func fileMode(mode int64) fs.FileMode {
	m := fs.FileMode(mode) & 0o755
	return m | m>>6&0o005 | m>>3&0o050 | 0o600
}

func dirMode(mode int64) fs.FileMode { return fileMode(mode) | 0o700 }

func (u *unpacker) file(at string, h *tar.Header, content io.Reader) error {
	if h.Size > u.left {
		return refuse("its files are larger than is allowed.")
	}
	u.left -= h.Size
	if _, err := u.free(at, false); err != nil {
		return err
	}
	f, err := u.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	written, err := io.CopyBuffer(struct{ io.Writer }{f}, io.LimitReader(content, h.Size+1), u.buf) // hiding methods makes it use buf
	if err == nil && written != h.Size {
		err = refuse("a file has %d bytes, its header says %d.", written, h.Size)
	}
	if err == nil {
		err = f.Chmod(fileMode(h.Mode))
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	u.used += max(1, (written+blockSize-1)/blockSize) * blockSize
	mtime := h.ModTime
	if mtime.Before(earliest) {
		mtime = earliest
	} else if mtime.After(latest) {
		mtime = latest
	}
	return u.root.Chtimes(at, mtime, mtime)
}

// symlink makes a link whatever it points to: it is followed inside the sandbox, or by follow.
func (u *unpacker) symlink(at, target string) error {
	if target == "" || len(target) > maxName || strings.ContainsRune(target, 0) {
		return refuse("a symbolic link's target has no bytes, a zero byte, or more than %d bytes.", maxName)
	}
	if _, err := u.free(at, false); err != nil {
		return err
	}
	return u.root.Symlink(target, at)
}

// hardlink gives a file of this image a second name.
func (u *unpacker) hardlink(at, target string) error {
	name, err := cleanName(target)
	if err != nil {
		return err
	}
	real, info, err := follow(u.root, name, false)
	if err != nil || info == nil || info.IsDir() {
		return refuse("hard link to %.100q, which is no file of it.", target)
	}
	if real == at {
		return nil
	}
	if _, err := u.free(at, false); err != nil {
		return err
	}
	return u.root.Link(real, at)
}
