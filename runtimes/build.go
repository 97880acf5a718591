package runtimes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"berth/lambda"
	"berth/sandbox"
)

const firstPythonMinor = 8 // older ones miss what the bootstrap uses

// python makes the runtime of one Python. The interpreter runs without site (-S): its scan for installed packages takes a
// third of the start, and a function is to see its own packages and the standard library, not what the host happens to
// have.
func python(ctx context.Context, i interpreter, version string, minor int, root string) (*Runtime, error) {
	id, dir, err := i.unpackBootstrap("python", version, root, func(staging string, files []file) error {
		return compilePython(ctx, i, staging, files)
	})
	if err != nil {
		return nil, err
	}
	name := "python3." + strconv.Itoa(minor)
	return &Runtime{
		Name:    name,
		Version: id,
		Mounts:  append(hostMounts(), language(i, dir)...),
		Command: []string{i.inside(), "-S", "/var/runtime/bootstrap.pyc"},
		Env:     append(managedEnv(name), pythonEnv...),
		Frames:  true,
		Parks:   true,
		Ahead:   pythonAhead,
	}, nil
}

var pythonEnv = []string{"PYTHONPATH=/var/runtime", "LC_CTYPE=C.UTF-8"}

// pythonAhead are the modules that a waiting Python imports, with those they need in turn. Nearly all functions use these.
// More would save functions more, but every idle environment pays for it: logging and traceback cost 1.3 MB.
const pythonAhead = "json,base64"

// node makes the runtime of one Node.
func node(i interpreter, version string, major int, root string) (*Runtime, error) {
	id, dir, err := i.unpackBootstrap("nodejs", version, root, func(string, []file) error { return nil })
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("nodejs%d.x", major)
	return &Runtime{
		Name:    name,
		Version: id,
		Mounts:  append(hostMounts(), language(i, dir)...),
		Command: []string{"/bin/sh", "/var/runtime/bootstrap", i.inside()},
		Env:     append(managedEnv(name), nodePath(strconv.Itoa(major))),
		Frames:  true,
		Parks:   true,
		Ahead:   "1",
		Sized:   true, // V8's heap has its limit from the start on
	}, nil
}

// unpackBootstrap puts a language's bootstrap below root, unless it is there, and returns the runtime's version and the directory.
func (i interpreter) unpackBootstrap(
	language, version, root string, finish func(staging string, files []file) error,
) (lambda.RuntimeVersionID, string, error) {
	files, err := bootstrap(language)
	if err != nil {
		return "", "", err
	}
	id, err := digest(i, version, files)
	if err != nil {
		return "", "", err
	}
	dir := filepath.Join(root, string(id))
	if err := unpack(dir, files, func(staging string) error { return finish(staging, files) }); err != nil {
		return "", "", fmt.Errorf("unpack the bootstrap of %s: %w", i.path, err)
	}
	return id, dir, nil
}

func nodePath(major string) string {
	return "NODE_PATH=/opt/nodejs/node" + major + "/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
}

// provided is the host's system without an interpreter; the function brings its own bootstrap, which speaks HTTP.
func provided(name string) *Runtime {
	release, _ := os.ReadFile("/etc/os-release") // a host without one has nothing to tell versions apart by
	sum := sha256.Sum256(append([]byte(name+"\n"), release...))
	return &Runtime{
		Name:    name,
		Version: lambda.RuntimeVersionID(hex.EncodeToString(sum[:])),
		Mounts:  hostMounts(),
		Command: []string{"/var/task/bootstrap"},
		Env:     commonEnv(),
		Parks:   true,
	}
}

// hostMounts shows the host's programs and libraries, its link and certificate settings, and nothing else. Where /lib and
// others are links into /usr they become mounts of what they point to.
func hostMounts() []sandbox.Mount {
	var mounts []sandbox.Mount
	for _, path := range []string{
		"/usr", "/bin", "/sbin", "/lib", "/lib64",
		"/etc/alternatives", "/etc/ld.so.cache", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted",
	} {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			mounts = append(mounts, sandbox.Mount{Source: real, Target: path})
		}
	}
	return mounts
}

// language shows the interpreter's installation at /var/lang, where AWS has it, and the bootstrap at /var/runtime.
func language(i interpreter, dir string) []sandbox.Mount {
	return []sandbox.Mount{{Source: i.prefix, Target: "/var/lang"}, {Source: dir, Target: "/var/runtime"}}
}

// commonEnv is what every runtime's processes find, as recorded on AWS.
func commonEnv() []string {
	return []string{
		"PATH=/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
		"LD_LIBRARY_PATH=/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"LANG=en_US.UTF-8",
		"TZ=:UTC",
		"LAMBDA_TASK_ROOT=/var/task",
		"LAMBDA_RUNTIME_DIR=/var/runtime",
	}
}

// managedEnv adds what the runtimes with an interpreter have and provided.* does not.
func managedEnv(name string) []string {
	return append(commonEnv(), "AWS_EXECUTION_ENV=AWS_Lambda_"+name, "PWD=/var/task", "SHLVL=0")
}
