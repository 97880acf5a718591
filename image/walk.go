package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// follow finds out what name means to a process whose root is root: symbolic links are followed inside, an absolute target
// begins at the root again, and ".." ends there. It returns a path without links for which info is Lstat's answer; info is
// nil when there is nothing of that name, and the path is where it would be if the rest were made of directories. last says
// whether a link at the very end is followed too.
//
// The answer is true of one moment; nobody else changes a tree while it is unpacked, and root itself leaves nothing out
// should somebody do.
func follow(root *os.Root, name string, last bool) (real string, info fs.FileInfo, err error) {
	pending := strings.Split(name, "/")
	hops := 0
	for len(pending) > 0 {
		segment := pending[0]
		pending = pending[1:]
		switch segment {
		case "", ".":
			continue
		case "..":
			real = strings.TrimPrefix(path.Dir("/"+real), "/")
			info = nil
			continue
		}
		at := path.Join(real, segment)
		info, err = root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return path.Join(at, path.Join(pending...)), nil, nil
		case err != nil:
			return "", nil, err
		case info.Mode().Type() == fs.ModeSymlink && (last || !onlyDots(pending)):
			if hops++; hops > maxHops {
				return "", nil, &fs.PathError{Op: "follow", Path: name, Err: syscall.ELOOP}
			}
			target, err := root.Readlink(at)
			if err != nil {
				return "", nil, err
			}
			if path.IsAbs(target) {
				real = ""
			}
			pending = append(strings.Split(target, "/"), pending...)
			if len(pending) > maxName {
				return "", nil, &fs.PathError{Op: "follow", Path: name, Err: syscall.ENAMETOOLONG}
			}
		case !info.IsDir() && !onlyDots(pending):
			return "", nil, &fs.PathError{Op: "follow", Path: name, Err: syscall.ENOTDIR}
		default:
			real = at
		}
	}
	if info == nil || real == "" {
		info, err = root.Lstat(path.Join(".", real))
	}
	return real, info, err
}

// onlyDots reports whether nothing but empty and "." segments follows.
func onlyDots(segments []string) bool {
	for _, s := range segments {
		if s != "" && s != "." {
			return false
		}
	}
	return true
}

// Lookup finds a program in the unpacked image in dir, as a process inside would: name with a slash is a path below workdir,
// one without is looked for in the directories of the variable PATH. It returns the path inside.
func Lookup(dir, name, workdir, pathVariable string) (inside string, err error) {
	root, err := os.OpenRoot(Root(dir))
	if err != nil {
		return "", err
	}
	defer root.Close()
	candidates := []string{path.Join("/", workdir, name)}
	if path.IsAbs(name) {
		candidates[0] = name
	} else if !strings.Contains(name, "/") {
		candidates = nil
		for _, d := range strings.Split(pathVariable, ":") {
			candidates = append(candidates, path.Join("/", d, name))
		}
	}
	for _, c := range candidates {
		_, info, err := follow(root, c, true)
		if err == nil && info != nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return c, nil
		}
	}
	return "", fmt.Errorf("%q is no program of the image: %w", name, fs.ErrNotExist)
}

// IsDir reports whether the unpacked image in dir has a directory of that name, as a process inside sees it.
func IsDir(dir, name string) bool {
	root, err := os.OpenRoot(Root(dir))
	if err != nil {
		return false
	}
	defer root.Close()
	_, info, err := follow(root, name, true)
	return err == nil && info != nil && info.IsDir()
}
