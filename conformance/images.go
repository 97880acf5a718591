package conformance

import (
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func imageScenarios() []scenario {
	const tests = "api::TestLambdaImages::"
	kinds := map[string]string{
		"code-sha256": `[0-9a-f]{64}`, "code-size": `\d+`, "repo_uri": `127\.0\.0\.1:\d+/first`, "repo_uri_2": `127\.0\.0\.1:\d+/second`,
	}
	return []scenario{
		{id: tests + "test_lambda_image_crud", kinds: kinds, run: imageCRUD},
		{id: tests + "test_lambda_image_and_image_config_crud", kinds: kinds, run: imageConfigCRUD},
	}
}

// push serves an image of random content from a registry of the test's own, as HOST/repository:latest.
func (s *session) push(repositories ...string) (uris []string) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	s.T.Cleanup(server.Close)
	for _, repository := range repositories {
		uri := strings.TrimPrefix(server.URL, "http://") + "/" + repository + ":latest"
		img, err := random.Image(1024, 2)
		if err == nil {
			config, _ := img.ConfigFile()
			config = config.DeepCopy()
			config.OS, config.Architecture = "linux", runtime.GOARCH
			img, err = mutate.ConfigFile(img, config)
		}
		ref, bad := name.ParseReference(uri)
		if err != nil || bad != nil {
			s.T.Fatal(err, bad)
		}
		if err := remote.Write(ref, img); err != nil {
			s.T.Fatal(err)
		}
		uris = append(uris, uri)
	}
	return uris
}

// pictured creates a function of an image.
func (s *session) pictured(fn, uri string, more params) map[string]any {
	s.names = append(s.names, fn)
	in := params{"FunctionName": fn, "Role": roleARN, "PackageType": "Image", "Code": params{"ImageUri": uri},
		"Environment": params{"Variables": params{"CUSTOM_ENV": "test"}}}
	maps.Copy(in, more)
	made := s.ok("CreateFunction", in)
	s.wait(fn)
	return made
}

func (s *session) noteImage(code, config, fn string) {
	s.note(code, s.ok("GetFunction", params{"FunctionName": fn}))
	s.note(config, s.ok("GetFunctionConfiguration", params{"FunctionName": fn}))
}

func imageCRUD(s *session) {
	uris, fn := s.push("first", "second"), "test-function-"+uid()
	s.note("create-image-response", s.pictured(fn, uris[0], nil))
	s.noteImage("get-function-code-response", "get-function-config-response", fn)
	s.note("image-to-zipfile-error", s.call("UpdateFunctionCode", params{"FunctionName": fn, "ZipFile": zipped("handler.py", echo)}))
	s.note("update-function-code-response", s.ok("UpdateFunctionCode", params{"FunctionName": fn, "ImageUri": uris[1]}))
	s.wait(fn)
	s.noteImage("get-function-code-response-after-update", "get-function-config-response-after-update", fn)
}

func imageConfigCRUD(s *session) {
	uris, fn := s.push("first"), "test-function-"+uid()
	s.note("create-image-with-config-response", s.pictured(fn, uris[0], params{"ImageConfig": params{
		"EntryPoint": []string{"sh"}, "Command": []string{"-c", "echo test"}, "WorkingDirectory": "/app1"}}))
	s.noteImage("get-function-code-with-config-response", "get-function-config-with-config-response", fn)
	for _, step := range []struct {
		label, after string
		config       params
	}{
		{"update-function-code-response", "after-update", params{"Command": []string{"-c", "echo test1"}, "WorkingDirectory": "/app1"}},
		{"update-function-code-delete-imageconfig-response", "after-delete-imageconfig", params{}},
	} {
		s.note(step.label, s.ok("UpdateFunctionConfiguration", params{"FunctionName": fn, "ImageConfig": step.config}))
		s.wait(fn)
		s.noteImage("get-function-code-response-"+step.after, "get-function-config-response-"+step.after, fn)
	}
}
