package cli

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"berth/code"
	"berth/lambda"
)

// bundle is code ready to be uploaded, and what is known of it.
type bundle struct {
	detected
	zip []byte
}

// pack makes a bundle of a directory, a zip, a source file or an executable.
func pack(ctx context.Context, source string, want family, handler string) (bundle, error) {
	info, err := os.Stat(source)
	if err != nil {
		return bundle{}, fmt.Errorf("nothing to deploy: %w", err)
	}
	var b bundle
	switch {
	case info.IsDir():
		b, err = packDirectory(ctx, source, want, handler)
	case strings.EqualFold(filepath.Ext(source), ".zip"):
		b, err = packZip(source, want, handler)
	default:
		b, err = packFile(ctx, source, want, handler)
	}
	if err != nil {
		return bundle{}, fmt.Errorf("%s: %w", source, err)
	}
	if len(b.zip) > lambda.MaxCodeZip {
		return bundle{}, fmt.Errorf("%s: zipped it has %s, more than the %s that can be uploaded at once",
			source, size(int64(len(b.zip))), size(lambda.MaxCodeZip))
	}
	return b, nil
}

func packDirectory(ctx context.Context, dir string, want family, handler string) (bundle, error) {
	what, err := detect(os.DirFS(dir), want, handler)
	if err != nil {
		return bundle{}, err
	}
	if what.family == goSource {
		return packGo(ctx, dir, ".", what)
	}
	if what.family == binary {
		if info, err := os.Stat(filepath.Join(dir, "bootstrap")); err == nil && info.Mode()&0o111 == 0 {
			return bundle{}, errors.New("bootstrap is not executable: run chmod +x on it")
		}
	}
	zipped, err := code.Zip(dir)
	return bundle{what, zipped}, err
}

// packZip takes a zip as it is; only the end of its names is looked at, and the server checks the rest.
func packZip(path string, want family, handler string) (bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return bundle{}, err
	}
	if info.Size() > lambda.MaxCodeZip {
		return bundle{}, fmt.Errorf("it has %s, more than the %s that can be uploaded at once", size(info.Size()), size(lambda.MaxCodeZip))
	}
	zipped, err := os.ReadFile(path)
	if err != nil {
		return bundle{}, err
	}
	files, err := zip.NewReader(bytes.NewReader(zipped), int64(len(zipped)))
	if err != nil {
		return bundle{}, err
	}
	what, err := detect(files, want, handler)
	if what.family == goSource {
		return bundle{}, errors.New("it holds Go source: deploy the directory, so that it can be built")
	}
	return bundle{what, zipped}, err
}

// packFile deploys one file: a script as it is, Go source built, an executable under the name bootstrap.
func packFile(ctx context.Context, path string, want family, handler string) (bundle, error) {
	dir, name := filepath.Split(path)
	if filepath.Ext(name) == ".go" {
		return packGo(ctx, filepath.Clean(dir), name, detected{goSource, orElse(handler, goHandler)})
	}
	if isExecutable(path) {
		return packAs(path, detected{binary, orElse(handler, goHandler)})
	}
	what, err := detect(oneFile{os.DirFS(filepath.Clean(dir)), name}, want, handler)
	if err != nil {
		return bundle{}, err
	}
	zipped, err := code.Zip(path)
	return bundle{what, zipped}, err
}

// isExecutable reports whether a file is a program that Linux can run by itself.
func isExecutable(path string) bool {
	file, err := elf.Open(path)
	if err != nil {
		return filepath.Base(path) == "bootstrap"
	}
	defer file.Close()
	return file.Type == elf.ET_EXEC || file.Type == elf.ET_DYN
}

// packAs zips one program under the name that provided.* runtimes start.
func packAs(path string, what detected) (b bundle, err error) {
	dir, err := os.MkdirTemp("", "berth-deploy-*")
	if err != nil {
		return bundle{}, err
	}
	defer os.RemoveAll(dir)
	in, err := os.Open(path)
	if err != nil {
		return bundle{}, err
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, "bootstrap"), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return bundle{}, err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return bundle{}, err
	}
	b.detected = what
	b.zip, err = code.Zip(dir)
	return b, err
}

// packGo builds a main package into a static bootstrap for Linux and this machine's processor.
func packGo(ctx context.Context, dir, target string, what detected) (bundle, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return bundle{}, errors.New("it is Go source, but there is no go tool in the PATH to build it: install Go, or deploy a built bootstrap")
	}
	out, err := os.MkdirTemp("", "berth-build-*")
	if err != nil {
		return bundle{}, err
	}
	defer os.RemoveAll(out)
	program := filepath.Join(out, "bootstrap")
	cmd := exec.CommandContext(ctx, tool, "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", program, target)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if said, err := cmd.CombinedOutput(); err != nil {
		return bundle{}, fmt.Errorf("go build failed: %w\n%s", err, bytes.TrimSpace(said))
	}
	if info, err := os.Stat(program); err != nil || !info.Mode().IsRegular() {
		return bundle{}, errors.New("go build made no program: the directory must hold one main package")
	}
	zipped, err := code.Zip(out)
	return bundle{what, zipped}, err
}

// oneFile shows a single file of a directory as the whole of it.
type oneFile struct {
	fs.FS
	name string
}

// ReadDir lists the one file.
func (o oneFile) ReadDir(string) ([]fs.DirEntry, error) {
	info, err := fs.Stat(o.FS, o.name)
	if err != nil {
		return nil, err
	}
	return []fs.DirEntry{fs.FileInfoToDirEntry(info)}, nil
}

var notInName = regexp.MustCompile(`[^a-zA-Z0-9_-]+`)

// functionName makes a function's name out of a path's last element.
func functionName(source string) (string, error) {
	absolute, err := filepath.Abs(source)
	if err != nil {
		return "", err
	}
	base := filepath.Base(absolute)
	if info, err := os.Stat(absolute); err == nil && !info.IsDir() {
		base = strings.TrimSuffix(base, filepath.Ext(base))
	}
	return plainName(base)
}

// plainName makes a function's name of another one.
func plainName(base string) (string, error) {
	name := strings.Trim(notInName.ReplaceAllString(base, "-"), "-")
	if name == "" || len(name) > maxName {
		return "", usagef("%q makes no function name of 1–%d letters, digits, - and _: give one with --name", base, maxName)
	}
	return name, nil
}

// maxName is the most letters that a function's name can have.
const maxName = 64
