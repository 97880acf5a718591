package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"berth/code"
	"berth/image"
	"berth/lambda"
	"berth/runtimes"
	"berth/store"
)

// Unpack makes the container image with the manifest digest in root and returns its disk space: image.Unpack, with the blobs
// and limits of this machine.
type Unpack func(ctx context.Context, digest lambda.CodeDigest, root *os.Root) (int64, error)

// openRuntime finds one version of a runtime: the one that this host has installed, for "" and lambda.HostRuntime too, or one
// that is an image, which is fetched and unpacked if need be. The caller releases the tree, which is nil for the host's.
func (w *Worker) openRuntime(ctx context.Context, name string, version lambda.RuntimeVersionID) (*runtimes.Runtime, *code.Tree, error) {
	host, err := w.cfg.Runtimes.Find(name)
	if version == "" || version == lambda.HostRuntime || err == nil && host.Version == version {
		return host, nil, err
	}
	tree, err := w.openImage(ctx, lambda.CodeDigest(version))
	if errors.Is(err, store.ErrNotFound) {
		has := lambda.RuntimeVersionID("no version")
		if host != nil {
			has = host.Version
		}
		return nil, nil, fmt.Errorf("version %s of the runtime %s is not stored, and this host has %s: %w", version, name, has, err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("version %s of the runtime %s: %w", version, name, err)
	}
	if known, ok := w.releases.Load(tree.Path); ok {
		return known.(*runtimes.Runtime), tree, nil
	}
	rt, err := readRelease(tree.Path, name, version)
	if err != nil {
		tree.Release()
		return nil, nil, err
	}
	w.releases.Store(tree.Path, rt) // a tree's path names what is in it
	return rt, tree, nil
}

// openImage unpacks a container image, or finds it unpacked.
func (w *Worker) openImage(ctx context.Context, digest lambda.CodeDigest) (*code.Tree, error) {
	if w.cfg.Unpack == nil {
		return nil, errors.New("this worker has no container images")
	}
	return w.cfg.Code.Made(ctx, digest, func(ctx context.Context, root *os.Root) (int64, error) { return w.cfg.Unpack(ctx, digest, root) })
}

// readRelease makes a runtime of an unpacked image. What functions bring is left out of its mounts.
func readRelease(dir, name string, version lambda.RuntimeVersionID) (*runtimes.Runtime, error) {
	settings, err := image.ReadSettings(dir)
	if err != nil {
		return nil, err
	}
	rt, err := runtimes.Boot(name, version, settings.Labels[runtimes.ReleaseLabel])
	if err != nil {
		return nil, err
	}
	rt.Mounts, err = image.Mounts(dir, taskRoot, layerRoot)
	return rt, err
}

// Defaults of a function's image where its configuration says nothing.
const (
	imageRuntime = "Image" // in AWS_EXECUTION_ENV: AWS_Lambda_Image
	imagePath    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// findImage unpacks a function's image and finds out how it is run: by its own settings, each of which the function's owner
// may have replaced. Its USER is not among them, as on Lambda: every sandbox has one user.
func (e *environment) findImage(ctx context.Context) (err error) {
	if e.tree, err = e.w.openImage(ctx, e.version.Code); err != nil {
		return err
	}
	settings, err := image.ReadSettings(e.tree.Path)
	if err != nil {
		return err
	}
	mounts, err := image.Mounts(e.tree.Path)
	if err != nil {
		return err
	}
	own := e.version.Image
	entry, command := settings.Entrypoint, settings.Cmd
	if own.EntryPoint != nil {
		entry = own.EntryPoint
	}
	if own.Command != nil {
		command = own.Command
	}
	e.workdir = settings.WorkingDir
	if own.WorkingDirectory != "" {
		e.workdir = own.WorkingDirectory
	}
	if !strings.HasPrefix(e.workdir, "/") {
		e.workdir = "/" + e.workdir
	}
	e.runtime = &runtimes.Runtime{
		Name: imageRuntime, Mounts: mounts, Env: append([]string{"PATH=" + imagePath}, settings.Env...),
		Command: append(entry[:len(entry):len(entry)], command...),
	}
	return nil
}

// checkImage finds an image's program before it is started, to name what is missing.
func (e *environment) checkImage() *failure {
	if !image.IsDir(e.tree.Path, e.workdir) {
		return &failure{class: lambda.Exited, errorType: "Runtime.InvalidWorkingDir", message: "chdir " + e.workdir + ": no such file or directory"}
	}
	if len(e.runtime.Command) == 0 {
		return invalidEntrypoint("the image has neither an entry point nor a command, and ImageConfig gives none")
	}
	name := e.runtime.Command[0]
	var path string
	for _, pair := range e.runtime.Env { // the last one counts
		if value, ok := strings.CutPrefix(pair, "PATH="); ok {
			path = value
		}
	}
	if value, ok := e.version.Env["PATH"]; ok {
		path = value
	}
	program, err := image.Lookup(e.tree.Path, name, e.workdir, path)
	if err != nil {
		if strings.Contains(name, "/") {
			return invalidEntrypoint("fork/exec " + name + ": no such file or directory")
		}
		return invalidEntrypoint(`exec: "` + name + `": executable file not found in $PATH`)
	}
	e.program = program
	return nil
}

// prepareImage unpacks a function's image.
func (w *Worker) prepareImage(ctx context.Context, v *lambda.Version) error {
	tree, err := w.openImage(ctx, v.Code)
	if err != nil {
		return fmt.Errorf("the function's image could not be made ready: %w", err)
	}
	defer tree.Release()
	_, err = image.Mounts(tree.Path)
	return err
}
