package worker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"berth/image"
	"berth/lambda"
	"berth/runtimes"
	"berth/store"
	"berth/store/memory"
	"berth/worker"
)

// program is the test images' runtime client, built once.
var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "imageboot")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("go", "build", "-o", dir+"/boot", "./testdata/imageboot")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(dir + "/boot")
})

// imageOf makes an image of files (all of them programs) and a configuration.
func imageOf(t testing.TB, files map[string][]byte, config v1.Config) v1.Image {
	t.Helper()
	var text bytes.Buffer
	out := tar.NewWriter(&text)
	for name, content := range files {
		must(t, out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o700, Size: int64(len(content)), ModTime: time.Unix(0, 0)}))
		_, err := out.Write(content)
		must(t, err)
	}
	must(t, out.Close())
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
	must(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	must(t, err)
	file, err := img.ConfigFile()
	must(t, err)
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	img, err = mutate.ConfigFile(img, file)
	must(t, err)
	return img
}

// keepImage stores an image and returns its digest.
func keepImage(t testing.TB, blobs store.Blobs, img v1.Image) lambda.CodeDigest {
	t.Helper()
	_, err := image.Keep(t.Context(), blobs, img, image.Limits{})
	must(t, err)
	digest, err := img.Digest()
	must(t, err)
	return lambda.CodeDigest(digest.Hex)
}

func withImages(blobs store.Blobs) func(*worker.Config) {
	return func(c *worker.Config) {
		c.Unpack = func(ctx context.Context, digest lambda.CodeDigest, root *os.Root) (int64, error) {
			return image.Unpack(ctx, blobs, digest, root, image.Limits{})
		}
	}
}

// startKey starts an environment that must have one version of its runtime.
func (r *real) startKey(v *lambda.Version, version lambda.RuntimeVersionID) lambda.Reservation {
	r.t.Helper()
	id := lambda.EnvironmentID(fmt.Sprintf("e-image-%d", r.next.Add(1)))
	must(r.t, r.Start(context.Background(), lambda.StartRequest{
		Environment: id, Owner: "m", Version: v, Key: lambda.EnvironmentKey{Runtime: version}}))
	return lambda.Reservation{Environment: id, Worker: "w", Cold: true}
}

// sight is what imageboot answers.
type sight struct {
	File, Dir, Env, Own, Execution          string
	Args, Root                              []string
	UID                                     int
	Known                                   bool
	RootWritable, HomeWritable, TmpWritable bool
}

func (r *real) look(res lambda.Reservation, file string) sight {
	r.t.Helper()
	out := r.call(res, `"`+file+`"`)
	var s sight
	if err := json.Unmarshal(out.Payload, &s); err != nil || out.Class != lambda.OK {
		r.t.Fatalf("%s %s; log:\n%s", out.Class, out.Payload, r.log())
	}
	return s
}

func imageVersion(digest lambda.CodeDigest, own lambda.Image) *lambda.Version {
	return &lambda.Version{
		Account: "000000000001", Region: "us-east-1", Function: "pictured", Number: lambda.Latest, ConfigID: "c", State: lambda.Active,
		Code: digest, Image: &own, MemoryMB: 256, Timeout: 5 * time.Second, EphemeralMB: 512, Env: map[string]string{"OWN_ENV": "mine"},
	}
}

// TestImageFunction runs a container image as a function: its settings, those of its owner, and what it can write.
func TestImageFunction(t *testing.T) {
	blobs := memory.NewBlobs()
	r := newReal(t, withImages(blobs))
	boot, err := program()
	must(t, err)
	files := map[string][]byte{"app/boot": boot, "usr/bin/other": boot, "data/note": []byte("hello from the image"), "tmp/hidden": nil}
	digest := keepImage(t, blobs, imageOf(t, files, v1.Config{
		Entrypoint: []string{"/app/boot", "first"}, Cmd: []string{"second"}, Env: []string{"IMAGE_ENV=image", "OWN_ENV=image"}, WorkingDir: "/app", User: "root",
	}))
	v := imageVersion(digest, lambda.Image{})
	must(t, r.Prepare(t.Context(), v))
	s := r.look(r.startKey(v, ""), "/data/note")
	if s.File != "hello from the image" || !slices.Equal(s.Args, []string{"first", "second"}) || s.Dir != "/app" || s.UID != 993 || !s.Known {
		t.Errorf("as the image says: %+v", s)
	}
	if s.Env != "image" || s.Own != "mine" || s.Execution != "AWS_Lambda_Image" {
		t.Errorf("environment: %+v", s)
	}
	if s.RootWritable || s.HomeWritable || !s.TmpWritable {
		t.Errorf("only /tmp is to be writable: %+v", s)
	}
	for _, name := range []string{"/app", "/data", "/dev", "/etc", "/proc", "/tmp", "/usr"} {
		if !slices.Contains(s.Root, name) {
			t.Errorf("%s is not in the root: %q", name, s.Root)
		}
	}
	if strings.Contains(r.log(), "INIT_START") || !strings.Contains(r.log(), "START RequestId") {
		t.Errorf("log:\n%s", r.log())
	}
	own := imageVersion(digest, lambda.Image{EntryPoint: []string{"other"}, Command: []string{"-x"}, WorkingDirectory: "/data"})
	if s := r.look(r.startKey(own, ""), "note"); s.File != "hello from the image" || s.Dir != "/data" || !slices.Equal(s.Args, []string{"-x"}) {
		t.Errorf("as its owner says: %+v", s)
	}
}

// TestImageFunctionsThatCannotStart names what is missing.
func TestImageFunctionsThatCannotStart(t *testing.T) {
	blobs := memory.NewBlobs()
	r := newReal(t, withImages(blobs))
	digest := keepImage(t, blobs, imageOf(t, map[string][]byte{"bin/text": []byte("no program")}, v1.Config{}))
	for _, c := range []struct {
		own  lambda.Image
		says string
	}{
		{lambda.Image{}, "Runtime.InvalidEntrypoint"},
		{lambda.Image{EntryPoint: []string{"nothing"}}, "executable file not found in $PATH"},
		{lambda.Image{EntryPoint: []string{"/no/thing"}}, "fork/exec /no/thing: no such file or directory"},
		{lambda.Image{EntryPoint: []string{"text"}}, "exec format error"},
		{lambda.Image{EntryPoint: []string{"text"}, WorkingDirectory: "/nowhere"}, "Runtime.InvalidWorkingDir"},
	} {
		v := imageVersion(digest, c.own)
		out := r.call(r.startKey(v, ""), `1`)
		if out.Class == lambda.OK || !strings.Contains(string(out.Payload)+r.log(), c.says) {
			t.Errorf("%+v: %s %s, want %q", c.own, out.Class, out.Payload, c.says)
		}
	}
	missing := imageVersion(lambda.CodeDigest(strings.Repeat("0", 64)), lambda.Image{})
	if err := r.Prepare(t.Context(), missing); err == nil {
		t.Error("an image that is not stored was made ready")
	}
}

// TestG9_RuntimeVersionsSideBySide: environments of three versions of one runtime run at the same time, each in its own, begun in
// parked sandboxes of that version where there are any.
func TestG9_RuntimeVersionsSideBySide(t *testing.T) {
	bothRuntimes := func(t *testing.T, change ...func(*worker.Config)) {
		blobs := memory.NewBlobs()
		r := newReal(t, append(change, withImages(blobs))...)
		boot, err := program()
		must(t, err)
		v := r.version("provided.al2023", "h", map[string]string{"bootstrap": string(boot)})
		release, err := runtimes.NewRelease("provided.al2023", func(string) bool { return false })
		must(t, err)
		label, err := release.Label()
		must(t, err)
		versions := map[lambda.RuntimeVersionID]string{lambda.HostRuntime: ""}
		for _, name := range []string{"one", "two"} {
			img, err := image.Add(imageOf(t, map[string][]byte{"etc/version": []byte(name), "var/lib/x": nil, "var/task/hidden": nil}, v1.Config{}), release.Files, runtimes.ReleaseLabel, label)
			must(t, err)
			versions[lambda.RuntimeVersionID(keepImage(t, blobs, img))] = name
		}
		for range 2 { // the second time sandboxes are parked
			for id, name := range versions {
				ready := *v
				ready.Management.Version = id
				must(t, r.Prepare(t.Context(), &ready))
				res := r.startKey(v, id)
				if s := r.look(res, "/etc/version"); s.File != name || s.Dir != "/var/task" || s.RootWritable {
					t.Errorf("version %q: %+v", name, s)
				}
				if name != "" && !strings.Contains(r.log(), "Runtime Version ARN: "+id.ARN("us-east-1")) {
					t.Errorf("no INIT_START line of version %q:\n%s", name, r.log())
				}
			}
			if r.pooled {
				for id := range versions {
					for end := time.Now().Add(30 * time.Second); id != lambda.HostRuntime && r.ParkedOf("provided.al2023", id) == 0; time.Sleep(time.Millisecond) {
						if time.Now().After(end) {
							t.Fatal("no sandbox of the version was parked")
						}
					}
				}
			}
		}
		if s := r.Stats(); r.pooled && s.ParkedStarts < 3 {
			t.Errorf("%d of 6 environments began in parked sandboxes", s.ParkedStarts)
		}
	}
	t.Run("parked", func(t *testing.T) { bothRuntimes(t) })
	t.Run("on demand", func(t *testing.T) { bothRuntimes(t, func(c *worker.Config) { c.ParkedBytes = -1 }) })
}

// TestRuntimeVersionFromHost makes a version of Node out of this host's files and runs a function in it.
func TestRuntimeVersionFromHost(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node on this host")
	}
	blobs := memory.NewBlobs()
	r := newReal(t, withImages(blobs))
	name := r.runtime("nodejs")
	files := map[string][]byte{}
	for _, program := range []string{node, "/bin/sh"} {
		addWithLibraries(t, files, program)
	}
	files["usr/bin/node"] = files[strings.TrimPrefix(node, "/")]
	release, err := runtimes.NewRelease(name, func(path string) bool { return files[strings.TrimPrefix(path, "/")] != nil })
	must(t, err)
	label, err := release.Label()
	must(t, err)
	img, err := image.Add(imageOf(t, files, v1.Config{}), release.Files, runtimes.ReleaseLabel, label)
	must(t, err)
	id := lambda.RuntimeVersionID(keepImage(t, blobs, img))
	v := r.version(name, "h.handler", map[string]string{"h.js": "exports.handler = async (e) => [e, require('fs').existsSync('/usr/share')]"})
	r.want(r.call(r.startKey(v, lambda.HostRuntime), `1`), lambda.OK, `^\[1,true\]$`)
	r.want(r.call(r.startKey(v, id), `2`), lambda.OK, `^\[2,false\]$`)
}

// addWithLibraries adds a program of this host and the libraries that it is linked with.
func addWithLibraries(t testing.TB, files map[string][]byte, program string) {
	t.Helper()
	out, err := exec.Command("ldd", program).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "not a dynamic") {
		t.Skipf("ldd %s: %v %s", program, err, out)
	}
	for _, word := range append(strings.Fields(string(out)), program) {
		if !filepath.IsAbs(word) {
			continue
		}
		text, err := os.ReadFile(word)
		must(t, err)
		files[strings.TrimPrefix(word, "/")] = text
	}
}
