package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"berth/client"
)

// picture makes an image of files, all of them programs.
func picture(t *testing.T, config v1.Config, namesAndContents ...string) v1.Image {
	t.Helper()
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for i := 0; i < len(namesAndContents); i += 2 {
		content := namesAndContents[i+1]
		if err := w.WriteHeader(&tar.Header{Name: namesAndContents[i], Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

// ownRegistry is a registry on a loopback address.
func ownRegistry(t *testing.T) (host string, push func(ref string, img v1.Image), stop func()) {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), func(ref string, img v1.Image) {
		t.Helper()
		parsed, err := name.ParseReference(ref)
		if err == nil {
			err = remote.Write(parsed, img)
		}
		if err != nil {
			t.Fatal(err)
		}
	}, server.Close
}

func goImage(t *testing.T, answer string) v1.Image {
	t.Helper()
	program, err := goProgram()
	if err != nil {
		t.Fatalf("building the Go function: %v\n%s", err, program)
	}
	return picture(t, v1.Config{Entrypoint: []string{"/app/boot"}, WorkingDir: "/app"}, "app/boot", program, "var/task/answer.txt", answer)
}

func createImage(t *testing.T, c *client.Client, fn, uri string) {
	t.Helper()
	create(t, c, &lambda.CreateFunctionInput{FunctionName: &fn, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &uri}})
}

// TestImageFunctions: functions that are container images, from a registry and from a file; they outlive the registry and a
// restart of the server.
func TestImageFunctions(t *testing.T) {
	needServer(t)
	host, push, stop := ownRegistry(t)
	push(host+"/team/app:1", goImage(t, "one"))
	push(host+"/team/app:2", goImage(t, "two"))
	files, data := t.TempDir(), t.TempDir()
	tag, err := name.NewTag("local/app:3")
	if err == nil {
		err = tarball.WriteToFile(filepath.Join(files, "three.tar"), tag, goImage(t, "three"))
	}
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, data, "--image-dir", files)
	c := client.New(s.Client)
	defer c.Close()
	createImage(t, c, "pictured", host+"/team/app:1")
	wantAnswer(t, c, "pictured", "", "one")
	if _, err := c.Lambda.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: aws.String("pictured"), ImageUri: aws.String(host + "/team/app:2")}); err != nil {
		t.Fatal(err)
	}
	waitUpdated(t, c, "pictured")
	wantAnswer(t, c, "pictured", "", "two")
	createImage(t, c, "local", "archive:"+filepath.Join(files, "three.tar"))
	wantAnswer(t, c, "local", "", "three")
	for uri, says := range map[string]string{
		host + "/team/app:none":   "does not exist. Provide a valid source image.",
		"archive:/etc/passwd":     "reads images below",
		"oci-layout:../../etc":    "absolute path",
		"http://" + host + "/app": "is not valid. Provide a valid source image.",
	} {
		_, err := c.Lambda.CreateFunction(t.Context(), &lambda.CreateFunctionInput{FunctionName: aws.String("refused"), Role: aws.String(role),
			PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &uri}})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", uri, err, says)
		}
	}
	stop()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	again := client.New(start(t, data).Client)
	defer again.Close()
	wantAnswer(t, again, "pictured", "", "two")
	wantAnswer(t, again, "local", "", "three")
}

// TestImageBounds: an image above the operator's bound makes the function Failed, with the reason.
func TestImageBounds(t *testing.T) {
	needServer(t)
	host, push, _ := ownRegistry(t)
	push(host+"/big:1", picture(t, v1.Config{Entrypoint: []string{"/boot"}}, "zeros", strings.Repeat("\x00", 3<<20)))
	c := client.New(start(t, t.TempDir(), "--image-size", "2").Client)
	defer c.Close()
	uri, fn := host+"/big:1", "big"
	if _, err := c.Lambda.CreateFunction(t.Context(), &lambda.CreateFunctionInput{FunctionName: &fn, Role: aws.String(role),
		PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &uri}}); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the function is Failed for its image", func() bool {
		out, err := c.Lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &fn})
		return err == nil && out.State == types.StateFailed && out.StateReasonCode == types.StateReasonCodeInvalidImage && strings.Contains(*out.StateReason, "larger")
	})
}

// TestRuntimeVersions publishes versions of a runtime to a server of several processes and to one alone: functions move as their
// runtime management says, and back (G8, G11), and all of it outlives a restart (G12).
func TestRuntimeVersions(t *testing.T) {
	needServer(t)
	host, push, _ := ownRegistry(t)
	for _, v := range []string{"one", "two"} {
		push(host+"/al2023:"+v, picture(t, v1.Config{}, "etc/version", v))
	}
	t.Run("processes", func(t *testing.T) {
		p := startProcesses(t, 1, 1)
		versionsOf(t, p.frontends[0], filepath.Join(p.dir, "frontend-f1"), host)
	})
	t.Run("alone", func(t *testing.T) {
		data := t.TempDir()
		s := start(t, data)
		c := client.New(s.Client)
		defer c.Close()
		want := versionsOf(t, c, data, host)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		again := client.New(start(t, data).Client)
		defer again.Close()
		wantAnswer(t, again, "managed", "", "x")
		wantRuntime(t, again, "managed", want)
	})
}

// wantRuntime compares the version that the API shows with the one of the newest INIT_START line.
func wantRuntime(t *testing.T, c *client.Client, fn, arn string) {
	t.Helper()
	out, err := c.Lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: &fn})
	if err != nil || out.RuntimeVersionConfig == nil || *out.RuntimeVersionConfig.RuntimeVersionArn != arn {
		t.Errorf("%s shows %+v, %v; want %s", fn, out.RuntimeVersionConfig, err, arn)
	}
}

// versionsOf moves a function through versions of its runtime and returns the ARN of the last.
func versionsOf(t *testing.T, c *client.Client, data, host string) string {
	command := func(args ...string) client.Runtime {
		t.Helper()
		out, errs, code := berth(t, nil, append([]string{"--data", data, "--json", "runtime"}, args...)...)
		var r client.Runtime
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
			t.Fatalf("berth runtime %q: %d %s %s", args, code, out, errs)
		}
		return r
	}
	arn := func(id string) string { return "arn:aws:lambda:us-east-1::runtime:" + id }
	const runtime, fn = "provided.al2023", "managed"
	put := func(mode types.UpdateRuntimeOn, version *string) {
		t.Helper()
		if _, err := c.Lambda.PutRuntimeManagementConfig(t.Context(), &lambda.PutRuntimeManagementConfigInput{
			FunctionName: aws.String(fn), UpdateRuntimeOn: mode, RuntimeVersionArn: version}); err != nil {
			t.Fatal(err)
		}
	}
	create(t, c, &lambda.CreateFunctionInput{FunctionName: aws.String(fn), Runtime: types.RuntimeProvidedal2023, Handler: aws.String("x"),
		Code: &types.FunctionCode{ZipFile: sources[2].zip(t, "x")}})
	wantAnswer(t, c, fn, "", "x")
	installed := command("show", runtime).Installed
	wantRuntime(t, c, fn, arn(installed))

	one := command("publish", runtime, "--at-once", "--from", host+"/al2023:one")
	if len(one.Releases) != 1 || one.Current != one.Releases[0].ID {
		t.Fatalf("published: %+v", one)
	}
	wantAnswer(t, c, fn, "", "x")
	wantRuntime(t, c, fn, arn(one.Current))
	put(types.UpdateRuntimeOnManual, aws.String(arn(one.Current)))
	two := command("publish", runtime, "--at-once", "--from", host+"/al2023:two")
	wantAnswer(t, c, fn, "", "x")
	wantRuntime(t, c, fn, arn(one.Current))
	put(types.UpdateRuntimeOnAuto, nil)
	wantAnswer(t, c, fn, "", "x")
	wantRuntime(t, c, fn, arn(two.Current))
	back := command("publish", runtime, "--at-once", "--version", "host")
	wantAnswer(t, c, fn, "", "x")
	if back.Current != client.HostRuntime || len(back.Releases) != 2 {
		t.Errorf("back to the host's: %+v", back)
	}
	wantRuntime(t, c, fn, arn(installed))
	command("publish", runtime, "--at-once", "--version", "2")
	wantAnswer(t, c, fn, "", "x")
	if out, errs, code := berth(t, nil, "--data", data, "runtime", "list"); code != 0 || !strings.Contains(out, runtime) || !strings.Contains(out, "2 (") {
		t.Errorf("list: %d %s %s", code, out, errs)
	}
	if _, errs, code := berth(t, nil, "--data", data, "runtime", "add", runtime, "--from", "dir:/etc"); code != 1 || !strings.Contains(errs, "--image-dir") {
		t.Errorf("a directory that was not allowed: %d %s", code, errs)
	}
	if _, err := os.Stat(filepath.Join(data, "images-tmp")); err != nil {
		t.Error(err)
	}
	return arn(two.Current)
}
