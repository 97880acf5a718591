package runtimes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"berth/lambda"
)

// Config says where to look for interpreters and where to keep the bootstraps.
type Config struct {
	// StateDir is where the bootstraps are unpacked, each version in a directory of its own: directories 0755, files 0644.
	StateDir string
	// Search is the directories that hold interpreters, the first match of a version counts; nil means DefaultSearch. An
	// interpreter is run from the directory above the one it is found in, which every user must be able to read.
	Search []string
}

// DefaultSearch is where interpreters are looked for.
var DefaultSearch = []string{"/usr/bin", "/usr/local/bin"}

const (
	probeTimeout   = 10 * time.Second // for one interpreter to say its version
	firstNodeMajor = 18               // older ones miss what the bootstrap uses
	elfMagic       = "\x7fELF"
)

var (
	pythonFile = regexp.MustCompile(`^python3\.\d+$`)
	nodeFile   = regexp.MustCompile(`^node(js)?(-?\d+)?$`)
)

// interpreter is a program that was found.
type interpreter struct {
	path   string // real path on the host
	prefix string // what becomes /var/lang: the directory above path's
}

// inside is the interpreter's path in a sandbox.
func (i interpreter) inside() string { return "/var/lang" + strings.TrimPrefix(i.path, i.prefix) }

// Discover finds the host's interpreters, unpacks Berth's bootstraps for them below cfg.StateDir and returns what this host
// can run. An interpreter that does not work is passed over. On systems other than Linux the set is empty.
func Discover(ctx context.Context, cfg Config) (*Set, error) {
	set := &Set{byName: map[string]*Runtime{}}
	if runtime.GOOS != "linux" {
		return set, nil
	}
	search := cfg.Search
	if search == nil {
		search = DefaultSearch
	}
	root := filepath.Join(cfg.StateDir, "runtimes")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, fmt.Errorf("a place for the runtimes' bootstraps: %w", err)
	}
	if err := removeLeftovers(root); err != nil {
		return nil, err
	}
	found := candidates(search)
	results := make([]*Runtime, len(found))
	errs := make([]error, len(found))
	var wg sync.WaitGroup
	for i, c := range found {
		wg.Go(func() { results[i], errs[i] = build(ctx, c, root) })
	}
	wg.Wait()
	for i, r := range results {
		if errs[i] != nil {
			return nil, errs[i]
		}
		if r != nil && set.byName[r.Name] == nil {
			set.byName[r.Name] = r
		}
	}
	for _, name := range []string{"provided.al2023", "provided.al2"} {
		set.byName[name] = provided(name)
	}
	return set, nil
}

// candidates lists the interpreters in the order of the search path.
func candidates(search []string) []interpreter {
	var found []interpreter
	seen := map[string]bool{}
	for _, dir := range search {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // a directory of the search path that is not there holds no interpreters
		}
		for _, e := range entries {
			if !pythonFile.MatchString(e.Name()) && !nodeFile.MatchString(e.Name()) {
				continue
			}
			i, ok := resolve(dir, e.Name())
			if ok && !seen[i.path] {
				seen[i.path] = true
				found = append(found, i)
			}
		}
	}
	return found
}

// resolve follows links to the real program, which must be a binary (version managers put scripts in its place) below the
// directory above dir, and readable for every user from there on.
func resolve(dir, name string) (interpreter, bool) {
	above, err := filepath.EvalSymlinks(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return interpreter{}, false
	}
	path, err := filepath.EvalSymlinks(filepath.Join(dir, name))
	if err != nil || !strings.HasPrefix(path, above+"/") || !isELF(path) {
		return interpreter{}, false
	}
	i := interpreter{path: path, prefix: filepath.Dir(filepath.Dir(path))}
	for p := path; len(p) >= len(i.prefix); p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil || info.Mode().Perm()&0o005 != 0o005 {
			return interpreter{}, false
		}
	}
	return i, true
}

func isELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, len(elfMagic))
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == elfMagic
}

// build makes the runtime of one interpreter, or nil if the interpreter does not work or is not one that Berth runs.
func build(ctx context.Context, i interpreter, root string) (*Runtime, error) {
	if strings.HasPrefix(filepath.Base(i.path), "python") {
		version, err := probe(ctx, i, "-I", "-S", "-c", "import sys; print(sys.version)")
		major, minor, ok := cutVersion(version)
		if err != nil || !ok || major != 3 || minor < firstPythonMinor {
			return nil, ctx.Err()
		}
		return python(ctx, i, version, minor, root)
	}
	version, err := probe(ctx, i, "--version")
	major, _, ok := cutVersion(strings.TrimPrefix(version, "v"))
	if err != nil || !ok || major < firstNodeMajor {
		return nil, ctx.Err()
	}
	return node(i, version, major, root)
}

// probe runs the interpreter and returns what it prints.
func probe(ctx context.Context, i interpreter, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, i.path, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", i.path, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// cutVersion reads the first two numbers of "3.11.2 (main, …)".
func cutVersion(s string) (major, minor int, ok bool) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) < 2 {
		return 0, 0, false
	}
	major, err := strconv.Atoi(parts[0])
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(parts[1])
	return major, minor, err == nil
}

// digest names a runtime version by all that makes it up. The interpreter counts by its version, place, size and time of
// change: a package's files carry those of its build, so that hosts with the same package agree.
func digest(i interpreter, version string, files []file) (lambda.RuntimeVersionID, error) {
	info, err := os.Stat(i.path)
	if err != nil {
		return "", fmt.Errorf("the interpreter has gone: %w", err)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n%s %d %d\n", runtime.GOARCH, version, i.path, info.Size(), info.ModTime().Unix())
	for _, f := range files {
		fmt.Fprintf(h, "%s %d\n%s", f.name, len(f.content), f.content)
	}
	return lambda.RuntimeVersionID(hex.EncodeToString(h.Sum(nil))), nil
}
