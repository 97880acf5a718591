package code

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"berth/lambda"
)

// plan is what a zip will become on disk.
type plan struct {
	dirs  []string // every directory but the root, parents first
	files []node   // grouped by directory
	bytes int64    // declared size of all files
}

// node is one regular file or symbolic link.
type node struct {
	dir, base string
	file      *zip.File
	exec      bool
	target    string // of a symbolic link, "" for a regular file
}

func (n *node) name() string { return path.Join(n.dir, n.base) }

// newPlan reads the directory of a zip and decides about every entry, decompressing nothing but the targets of links.
func newPlan(r io.ReaderAt, size int64) (*plan, error) {
	budget := &budgetReader{ReaderAt: r, left: maxDirectory}
	z, err := zip.NewReader(budget, size)
	switch {
	case errors.Is(err, errBudget) || z != nil && len(z.File) > maxNodes:
		return nil, refuse(fmt.Sprintf("more than %d entries", maxNodes))
	case err != nil && !errors.Is(err, zip.ErrInsecurePath): // judged below, by stricter rules
		return nil, refuse("")
	case len(z.File) == 0:
		return nil, &lambda.Error{Code: lambda.InvalidParameterValue, Message: textEmpty}
	}
	budget.left = -1
	b := builder{taken: make(map[string]bool, len(z.File))}
	for _, f := range z.File {
		if err := b.add(f); err != nil {
			return nil, err
		}
	}
	return b.finish(), nil
}

// errBudget: the directory is larger than any honest zip's.
var errBudget = errors.New("the zip's directory is too large")

// budgetReader bounds how much is read, and so how much memory archive/zip spends on entries, until left is set to −1.
type budgetReader struct {
	io.ReaderAt
	left int
}

func (b *budgetReader) ReadAt(p []byte, at int64) (int, error) {
	if b.left >= 0 {
		if len(p) > b.left {
			return 0, errBudget
		}
		b.left -= len(p)
	}
	return b.ReaderAt.ReadAt(p, at)
}

// builder makes a plan, entry by entry.
type builder struct {
	plan  plan
	taken map[string]bool // every name in the tree; true: a directory
}

func (b *builder) add(f *zip.File) error {
	name, err := cleanName(f.Name)
	if err != nil {
		return err
	}
	mode := f.Mode()
	switch kind := mode.Type(); {
	case f.Flags&1 != 0:
		return refuse(fmt.Sprintf("entry %q is encrypted", name))
	case kind == fs.ModeDir:
		return b.addDir(name)
	case kind == 0 || kind == fs.ModeSymlink:
	default:
		return refuse(fmt.Sprintf("entry %q is neither a file, a directory nor a symbolic link", name))
	}
	if f.Method != zip.Store && f.Method != zip.Deflate {
		return refuse(fmt.Sprintf("entry %q is compressed with method %d; only stored and deflated entries are known", name, f.Method))
	}
	if f.UncompressedSize64 >= uint64(lambda.MaxUnpacked-b.plan.bytes) {
		return lambda.Errorf(lambda.InvalidParameterValue, textSize, lambda.MaxUnpacked)
	}
	b.plan.bytes += int64(f.UncompressedSize64)
	if _, taken := b.taken[name]; taken || name == "." {
		return refuse(fmt.Sprintf("entry %q is in the zip twice", name))
	}
	dir, base := path.Split(name)
	n := node{dir: path.Clean(dir), base: base, file: f, exec: mode.Perm()&0o111 != 0}
	if err := b.addDir(n.dir); err != nil {
		return err
	}
	if mode.Type() == fs.ModeSymlink {
		if n.target, err = readTarget(f); err != nil {
			return err
		}
		if !targetStaysInside(name, n.target) {
			return refuse(fmt.Sprintf("symbolic link %q leads out of the zip or is not of the form ../../name", name))
		}
	}
	b.taken[name] = false
	b.plan.files = append(b.plan.files, n)
	return b.count()
}

// addDir adds a directory and its parents.
func (b *builder) addDir(name string) error {
	for ; name != "."; name = path.Dir(name) {
		isDir, taken := b.taken[name]
		if isDir {
			return nil
		}
		if taken {
			return refuse(fmt.Sprintf("entry %q is used as a directory", name))
		}
		b.taken[name] = true
		b.plan.dirs = append(b.plan.dirs, name)
		if err := b.count(); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) count() error {
	if len(b.taken) > maxNodes {
		return refuse(fmt.Sprintf("more than %d files and directories", maxNodes))
	}
	return nil
}

// cleanName returns the entry's path in the tree ("a/b"; "." is the root itself).
func cleanName(name string) (string, error) {
	shown := name
	if len(shown) > 64 {
		shown = shown[:64] + "…"
	}
	switch {
	case name == "" || len(name) > maxName:
		return "", refuse(fmt.Sprintf("entry %q: a name has 1 to %d bytes", shown, maxName))
	case strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c >= 0x7f && c < 0xa0 }):
		return "", refuse(fmt.Sprintf("entry %q has a control character in its name", shown))
	case strings.Contains(name, `\`):
		return "", refuse(fmt.Sprintf("entry %q has a backslash in its name; use '/'", shown))
	case name[0] == '/' || len(name) > 1 && name[1] == ':' && isLetter(name[0]):
		return "", refuse(fmt.Sprintf("entry %q has an absolute name", shown))
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == ".." {
			return "", refuse(fmt.Sprintf("entry %q leads out of the zip", shown))
		}
		if len(segment) > maxSegment {
			return "", refuse(fmt.Sprintf("entry %q: a file name has at most %d bytes", shown, maxSegment))
		}
	}
	return path.Clean(name), nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

func readTarget(f *zip.File) (string, error) {
	if f.UncompressedSize64 > maxTarget {
		return "", refuse(fmt.Sprintf("symbolic link %q has a target of more than %d bytes", f.Name, maxTarget))
	}
	r, err := f.Open()
	if err != nil {
		return "", refuse("")
	}
	defer func() { _ = r.Close() }()
	target, err := io.ReadAll(r)
	if err != nil {
		return "", refuse("")
	}
	return string(target), nil
}

// targetStaysInside reports whether a link at name may have this target: relative, with ".." only in front and no more of
// them than name is deep. Such a target climbs real directories only (no entry lies below a link), stays in the tree, and
// then only descends; by induction a chain of such links never leaves the tree either.
func targetStaysInside(name, target string) bool {
	if target == "" || target[0] == '/' || strings.ContainsFunc(target, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return false
	}
	depth, descending := strings.Count(name, "/"), false
	for segment := range strings.SplitSeq(target, "/") {
		switch segment {
		case "", ".":
		case "..":
			if depth--; depth < 0 || descending {
				return false
			}
		default:
			descending = true
		}
	}
	return true
}
