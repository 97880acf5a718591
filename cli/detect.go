package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxSource bounds how much of a source file is looked at for its handler, in bytes.
const maxSource = 1 << 20

// The runtimes that are chosen when the server does not tell which ones it has: Debian 12's.
const (
	defaultPython = "python3.11"
	defaultNode   = "nodejs20.x"
	goRuntime     = "provided.al2023"
	goHandler     = "bootstrap" // what the official runtime calls it; not looked at
)

// family is a kind of code, by how it is found and run.
type family string

const (
	python   family = "python"
	node     family = "nodejs"
	goSource family = "go"        // to be built into a bootstrap
	binary   family = "bootstrap" // a ready executable
)

// detected is what a look into the code has told.
type detected struct {
	family  family
	handler string
}

// familyOf returns the family of a runtime's name, or "" for one that is not known here.
func familyOf(runtime string) family {
	switch {
	case strings.HasPrefix(runtime, "python"):
		return python
	case strings.HasPrefix(runtime, "nodejs"):
		return node
	case strings.HasPrefix(runtime, "provided."):
		return binary
	}
	return ""
}

// detect finds out what the code in a directory (or in a zip) is. A family that the user named is not guessed, "" is; the
// handler is looked for unless the user named it.
func detect(files fs.FS, want family, handler string) (detected, error) {
	names, err := rootFiles(files)
	if err != nil {
		return detected{}, err
	}
	if slices.Contains(names, "bootstrap") && want != python && want != node && !hasSuffix(names, ".go") {
		return detected{binary, orElse(handler, goHandler)}, nil
	}
	if hasSuffix(names, ".go") && (want == "" || want == binary) {
		return detected{goSource, orElse(handler, goHandler)}, nil
	}
	var found []detected
	for _, look := range []struct {
		family  family
		handler func(fs.FS, []string) string
	}{{python, pythonHandler}, {node, nodeHandler}} {
		if want != "" && want != look.family {
			continue
		}
		switch h := look.handler(files, names); {
		case handler != "" && (want != "" || hasSuffix(names, suffixes(look.family)...)):
			found = append(found, detected{look.family, handler})
		case handler == "" && h != "":
			found = append(found, detected{look.family, h})
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return detected{}, fmt.Errorf("there are handlers of %s (%s) and of %s (%s): choose with --runtime",
			found[0].family, found[0].handler, found[1].family, found[1].handler)
	}
	return detected{}, nothingFound(want)
}

func nothingFound(want family) error {
	switch want {
	case python:
		return errors.New("no Python file here defines lambda_handler or handler: name the handler with --handler FILE.FUNCTION")
	case node:
		return errors.New("no JavaScript file here exports a handler: name it with --handler FILE.EXPORT")
	case binary:
		return errors.New("there is no executable called bootstrap here, and no Go source to build one from")
	}
	return errors.New("cannot tell what this is: expected a .py file with lambda_handler, a .js or .mjs file that exports handler, Go source, or an executable called bootstrap; " +
		"else name --runtime and --handler")
}

// rootFiles returns the names of the regular files at the root, sorted.
func rootFiles(files fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if info, err := fs.Stat(files, entry.Name()); err == nil && info.Mode().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func suffixes(f family) []string {
	if f == python {
		return []string{".py"}
	}
	return []string{".mjs", ".js", ".cjs"}
}

func hasSuffix(names []string, suffixes ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(suffixes, path.Ext(name)) })
}

// Function names that say "I am the handler", best first.
var (
	pythonNames = []string{"lambda_handler", "handler"}
	nodeNames   = []string{"handler", "lambdaHandler"}
)

// pythonHandler returns "FILE.FUNCTION", or "" when no file at the root has one. The usual file names come first.
func pythonHandler(files fs.FS, names []string) string {
	names = order(names, suffixes(python), []string{"lambda_function", "app", "main", "handler", "index"})
	return bestHandler(files, names, pythonNames, func(name string) string {
		return `(?m)^(?:async\s+)?def\s+` + name + `\s*\(|^` + name + `\s*=`
	})
}

// nodeHandler is pythonHandler for JavaScript, CommonJS and ES modules.
func nodeHandler(files fs.FS, names []string) string {
	names = order(names, suffixes(node), []string{"index", "app", "main", "handler", "lambda"})
	return bestHandler(files, names, nodeNames, func(name string) string {
		return `(?m)\bexports\.` + name + `\s*=` +
			`|^\s*export\s+(?:async\s+)?(?:const|let|var|function)\s+` + name + `\b` +
			`|(?:^\s*export|\bmodule\.exports\s*=)\s*\{[^}]*\b` + name + `\b`
	})
}

// bestHandler looks for each wanted name in all files before it looks for the next name; pattern makes the expression
// that matches a definition.
func bestHandler(files fs.FS, names, wanted []string, pattern func(name string) string) string {
	for _, want := range wanted {
		defined := regexp.MustCompile(pattern(want))
		for _, name := range names {
			if source, err := readSource(files, name); err == nil && defined.Match(source) {
				return strings.TrimSuffix(name, path.Ext(name)) + "." + want
			}
		}
	}
	return ""
}

func readSource(files fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(files, name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSource {
		return nil, fmt.Errorf("%s is too big to be a source file with a handler", name)
	}
	return fs.ReadFile(files, name)
}

// order returns the names with one of the endings, the usual stems first.
func order(names, endings, usual []string) []string {
	rank := func(name string) int {
		if i := slices.Index(usual, strings.TrimSuffix(name, path.Ext(name))); i >= 0 {
			return i
		}
		return len(usual)
	}
	var chosen []string
	for _, name := range names {
		if slices.Contains(endings, path.Ext(name)) {
			chosen = append(chosen, name)
		}
	}
	slices.SortStableFunc(chosen, func(x, y string) int { return rank(x) - rank(y) })
	return chosen
}

// newestRuntime returns the newest of a server's runtimes of one family, or the default when it does not tell.
func newestRuntime(f family, has []string) string {
	fallback := map[family]string{python: defaultPython, node: defaultNode, goSource: goRuntime, binary: goRuntime}[f]
	if f != python && f != node {
		return fallback
	}
	best, bestMinor := fallback, -1
	for _, name := range has {
		text := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "python3."), "nodejs"), ".x")
		if minor, err := strconv.Atoi(text); err == nil && familyOf(name) == f && minor > bestMinor {
			best, bestMinor = name, minor
		}
	}
	return best
}

func orElse(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}
