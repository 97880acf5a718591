package apiserver_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/apiserver"
	"berth/lambda"
)

// installed is workers that have one version of everything.
type installed struct{}

func (installed) Names() []string                                  { return []string{"python3.12"} }
func (installed) Installed(string) (lambda.RuntimeVersionID, bool) { return "8eef", true }

// pictures is a registry that has every image but those called missing and broken.
type pictures struct{}

func (pictures) Resolve(_ context.Context, ref, architecture string) (apiserver.ResolvedImage, error) {
	switch {
	case strings.Contains(ref, "missing"):
		return apiserver.ResolvedImage{}, lambda.Errorf(lambda.InvalidParameterValue, "Source image %s does not exist. Provide a valid source image.", ref)
	case strings.Contains(ref, "broken"):
		return apiserver.ResolvedImage{}, errors.New("dial tcp 10.1.2.3:443: connection refused")
	}
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte(ref+architecture)))
	repository, _, _ := strings.Cut(ref, ":")
	return apiserver.ResolvedImage{Reference: repository + "@sha256:" + digest, Digest: lambda.CodeDigest(digest)}, nil
}

func (pictures) Release(_ context.Context, runtime, from string) (lambda.RuntimeRelease, error) {
	if strings.Contains(from, "missing") {
		return lambda.RuntimeRelease{}, lambda.Errorf(lambda.InvalidParameterValue, "Source image %s does not exist. Provide a valid source image.", from)
	}
	return lambda.RuntimeRelease{ID: lambda.RuntimeVersionID(fmt.Sprintf("%x", sha256.Sum256([]byte(runtime+from)))), Source: from, Bytes: 7}, nil
}

func imageInput(name, uri string) *sdk.CreateFunctionInput {
	return &sdk.CreateFunctionInput{
		FunctionName: &name, Role: aws.String("arn:aws:iam::000000000001:role/r"), PackageType: types.PackageTypeImage,
		Code: &types.FunctionCode{ImageUri: &uri},
	}
}

// TestImageFunctions: what api::TestLambdaImages recorded, beside what the registry's silence and wrong input give.
func TestImageFunctions(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	in := imageInput("pictured", "registry.test/app:latest")
	in.ImageConfig = &types.ImageConfig{EntryPoint: []string{"sh"}, Command: []string{"-c", "echo test"}, WorkingDirectory: aws.String("/app1")}
	made, err := f.client.CreateFunction(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	if made.State != types.StatePending || made.PackageType != types.PackageTypeImage || made.Runtime != "" || made.Handler != nil ||
		made.RuntimeVersionConfig != nil || made.ImageConfigResponse == nil || len(*made.CodeSha256) != 64 {
		t.Errorf("created: %+v", made)
	}
	f.waitUpdated(t, "pictured")
	got, err := f.client.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: made.FunctionName})
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Code; *c.ImageUri != "registry.test/app:latest" || *c.RepositoryType != "ECR" || c.Location != nil ||
		*c.ResolvedImageUri != "registry.test/app@sha256:"+*made.CodeSha256 {
		t.Errorf("code: %+v", c)
	}
	if i := got.Configuration.ImageConfigResponse.ImageConfig; !slices.Equal(i.EntryPoint, []string{"sh"}) || *i.WorkingDirectory != "/app1" {
		t.Errorf("image config: %+v", i)
	}
	// All of it is replaced, and an empty one takes it away.
	for _, c := range []*types.ImageConfig{{Command: []string{"-c", "echo test1"}, WorkingDirectory: aws.String("/app1")}, {}} {
		updated, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: made.FunctionName, ImageConfig: c})
		if err != nil {
			t.Fatal(err)
		}
		if r := updated.ImageConfigResponse; (r == nil) != (c.Command == nil) || r != nil && (r.ImageConfig.EntryPoint != nil || len(r.ImageConfig.Command) != 2) {
			t.Errorf("after %+v: %+v", c, r)
		}
		f.waitUpdated(t, "pictured")
	}
	moved, err := f.client.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: made.FunctionName, ImageUri: aws.String("registry.test/two:latest"), Publish: true})
	if err != nil || *moved.CodeSha256 == *made.CodeSha256 || *moved.Version != "1" {
		t.Fatalf("UpdateFunctionCode = %+v, %v", moved, err)
	}
	f.waitUpdated(t, "pictured")
	create := func(edit func(*sdk.CreateFunctionInput)) func() error {
		return func() error {
			in := imageInput("another", "registry.test/app:latest")
			edit(in)
			_, err := f.client.CreateFunction(ctx, in)
			return err
		}
	}
	update := func(in sdk.UpdateFunctionCodeInput) func() error {
		return func() error {
			in.FunctionName = made.FunctionName
			_, err := f.client.UpdateFunctionCode(ctx, &in)
			return err
		}
	}
	for _, c := range []struct {
		call func() error
		says string
	}{
		{create(func(in *sdk.CreateFunctionInput) { in.Code.ImageUri = aws.String("registry.test/missing:1") }), "Source image registry.test/missing:1 does not exist. Provide a valid source image."},
		{create(func(in *sdk.CreateFunctionInput) { in.Code.ImageUri = aws.String("registry.test/broken:1") }), "cannot be read"},
		{create(func(in *sdk.CreateFunctionInput) { in.Code.ImageUri = nil }), "Please provide ImageUri"},
		{create(func(in *sdk.CreateFunctionInput) { in.PackageType = types.PackageTypeZip }), "Please don't provide ImageUri"},
		{create(func(in *sdk.CreateFunctionInput) { in.Handler = aws.String("x.y") }), "Please don't provide Handler or Runtime or Layer"},
		{create(func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = zipOf(t, "x") }), "only one source"},
		{update(sdk.UpdateFunctionCodeInput{ZipFile: zipOf(t, "x")}), "Please provide ImageUri when updating a function with packageType Image."},
		{func() error {
			_, err := f.client.PutRuntimeManagementConfig(ctx, &sdk.PutRuntimeManagementConfigInput{FunctionName: made.FunctionName, UpdateRuntimeOn: types.UpdateRuntimeOnAuto})
			return err
		}, "packageType Image"},
		{func() error {
			_, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: made.FunctionName, Runtime: types.RuntimePython312})
			return err
		}, "Please don't provide Handler or Runtime or Layer"},
	} {
		var refused *types.InvalidParameterValueException
		if err := c.call(); !errors.As(err, &refused) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "10.1.2.3") {
			t.Errorf("%v, want %q", err, c.says)
		}
	}
}

// TestRuntimeManagement: the three modes, as the API shows them and as they act when a runtime moves (G8, G11).
func TestRuntimeManagement(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	in := input(t, "managed")
	if _, err := f.client.CreateFunction(ctx, in); err != nil {
		t.Fatal(err)
	}
	f.waitUpdated(t, "managed")
	runtime := string(in.Runtime)
	shown := func() string {
		t.Helper()
		out, err := f.client.GetFunctionConfiguration(ctx, &sdk.GetFunctionConfigurationInput{FunctionName: in.FunctionName})
		if err != nil {
			t.Fatal(err)
		}
		return *out.RuntimeVersionConfig.RuntimeVersionArn
	}
	put := func(mode types.UpdateRuntimeOn, arn *string) error {
		t.Helper()
		out, err := f.client.PutRuntimeManagementConfig(ctx, &sdk.PutRuntimeManagementConfigInput{FunctionName: in.FunctionName, UpdateRuntimeOn: mode, RuntimeVersionArn: arn})
		if err != nil {
			return err
		}
		got, err := f.client.GetRuntimeManagementConfig(ctx, &sdk.GetRuntimeManagementConfigInput{FunctionName: in.FunctionName})
		if err != nil || got.UpdateRuntimeOn != mode || aws.ToString(got.RuntimeVersionArn) != aws.ToString(arn) || *got.FunctionArn != *out.FunctionArn || !strings.HasSuffix(*got.FunctionArn, ":managed:$LATEST") {
			t.Errorf("after %s: %+v, %v", mode, got, err)
		}
		return nil
	}
	publish := func(from string) string {
		t.Helper()
		status, body := f.own(t, http.MethodPost, "/berth/v1/runtimes/"+runtime, `{"from":"`+from+`","publish":true}`)
		if status != http.StatusOK {
			t.Fatalf("publish: %d %s", status, body)
		}
		return "arn:aws:lambda:us-east-1::runtime:" + fmt.Sprintf("%x", sha256.Sum256([]byte(runtime+from)))
	}
	host := "arn:aws:lambda:us-east-1::runtime:8eef"
	if got := shown(); got != host {
		t.Errorf("at first: %s", got)
	}
	one := publish("one")
	if got := shown(); got != one {
		t.Errorf("Auto: %s, want the published %s", got, one)
	}
	if err := put(types.UpdateRuntimeOnFunctionUpdate, nil); err != nil {
		t.Fatal(err)
	}
	two := publish("two")
	if got := shown(); got != one {
		t.Errorf("FunctionUpdate before an update: %s, want %s", got, one)
	}
	if _, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: in.FunctionName, Description: aws.String("x")}); err != nil {
		t.Fatal(err)
	}
	f.waitUpdated(t, "managed")
	if got := shown(); got != two {
		t.Errorf("FunctionUpdate after an update: %s, want %s", got, two)
	}
	for _, arn := range []string{one, host} {
		if err := put(types.UpdateRuntimeOnManual, &arn); err != nil {
			t.Fatal(err)
		}
		if got := shown(); got != arn {
			t.Errorf("Manual: %s, want %s", got, arn)
		}
	}
	var refused *types.InvalidParameterValueException
	unknown := "arn:aws:lambda:us-east-1::runtime:" + strings.Repeat("0", 64)
	for name, err := range map[string]error{
		"an unknown version":     put(types.UpdateRuntimeOnManual, &unknown),
		"Manual without version": put(types.UpdateRuntimeOnManual, nil),
		"Auto with a version":    put(types.UpdateRuntimeOnAuto, &one),
	} {
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := put(types.UpdateRuntimeOnAuto, nil); err != nil || shown() != two {
		t.Errorf("back to Auto: %v, %s", err, shown())
	}
}

// TestRuntimesPath: who may change runtimes, and what is refused.
func TestRuntimesPath(t *testing.T) {
	f := start(t)
	const path = "/berth/v1/runtimes"
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{http.MethodGet, path, "", 200, `"name":"python3.12"`},
		{http.MethodPost, path + "/python3.12", `{"from":"one"}`, 200, `"number":1`},
		{http.MethodPost, path + "/python3.12", `{"from":"two","candidate":true}`, 200, `"candidate":"`},
		{http.MethodGet, path + "/python3.12", "", 200, `"current":"host"`},
		{http.MethodPost, path + "/python3.12", `{"from":"host","publish":true}`, 200, `"current":"host"`},
		{http.MethodPost, path + "/python3.12", `{"version":"00","publish":true}`, 400, "has no version"},
		{http.MethodPost, path + "/python3.12", `{"from":"missing"}`, 400, "does not exist"},
		{http.MethodPost, path + "/python3.12", `{"from":"x","version":"y"}`, 400, "expected"},
		{http.MethodPost, path + "/cobol85", `{"from":"one"}`, 400, "no runtime"},
		{http.MethodPost, path, `{}`, 404, "does not exist"},
		{http.MethodPost, path + "/python3.12", `{"from":"` + strings.Repeat("x", 20<<10) + `"}`, 413, "smaller"},
	} {
		status, body := f.own(t, c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s %s %.60s: %d %s; want %d, %q", c.method, c.path, c.body, status, body, c.status, c.says)
		}
	}
	resp, err := http.Get(f.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: %d %s", resp.StatusCode, text)
	}
}
