package apiserver_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// publish publishes a version of a layer and returns its ARN.
func (f *fixture) publish(t *testing.T, name string, zip []byte, runtimes ...types.Runtime) string {
	t.Helper()
	out, err := f.client.PublishLayerVersion(t.Context(), &sdk.PublishLayerVersionInput{
		LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: zip}, CompatibleRuntimes: runtimes})
	if err != nil {
		t.Fatal(err)
	}
	return *out.LayerVersionArn
}

func TestLayerLimits(t *testing.T) {
	f := start(t)
	var arns []string
	for i := range 6 {
		arns = append(arns, f.publish(t, fmt.Sprintf("l%d", i), zipOf(t, "x")))
	}
	f.create(t, "f")
	update := func(layers ...string) error {
		_, err := f.client.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Layers: layers})
		if err == nil {
			f.waitUpdated(t, "f")
		}
		return err
	}
	wantCode(t, update(arns...), lambda.InvalidParameterValue, "Cannot reference more than 5 layers")
	if err := update(arns[:5]...); err != nil {
		t.Fatal(err)
	}
	// The sizes are written into the catalog: zips that large take seconds to make.
	for name, unpacked := range map[string]int64{"half-a": lambda.MaxUnpacked / 2, "half-b": lambda.MaxUnpacked / 2, "whole": lambda.MaxUnpacked - 3} {
		_, err := f.catalog.PublishLayer(t.Context(), catalog.LayerID{Account: f.key.Account, Name: name}, catalog.LayerVersion{Unpacked: unpacked, Code: "0"})
		if err != nil {
			t.Fatal(err)
		}
	}
	large := func(name string) string {
		return "arn:aws:lambda:us-east-1:" + string(f.key.Account) + ":layer:" + name + ":1"
	}
	wantCode(t, update(large("half-a"), large("half-b")), lambda.InvalidParameterValue, "exceeds the maximum allowed size of 262144000 bytes")
	if err := update(large("whole")); err != nil { // with two bytes of code
		t.Fatal(err)
	}
	_, err := f.client.UpdateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: zipOf(t, "three")})
	wantCode(t, err, lambda.InvalidParameterValue, "exceeds the maximum allowed size")
	wantCode(t, update("arn:aws:lambda:us-east-1:123456789012:layer:theirs:1"), lambda.AccessDenied, "lambda:GetLayerVersion")
}

// TestLayersBelongToVersions: what a version has it keeps, and so does a function whose layer is gone.
func TestLayersBelongToVersions(t *testing.T) {
	f := start(t)
	arn := f.publish(t, "l", zipOf(t, "x"))
	in := input(t, "f")
	in.Layers = []string{arn}
	if _, err := f.client.CreateFunction(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	f.waitActive(t, "f")
	if _, err := f.client.PublishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Layers: []string{}}); err != nil {
		t.Fatal(err)
	}
	f.waitUpdated(t, "f")
	if _, err := f.client.DeleteLayerVersion(t.Context(), &sdk.DeleteLayerVersionInput{LayerName: aws.String("l"), VersionNumber: aws.Int64(1)}); err != nil {
		t.Fatal(err)
	}
	for qualifier, want := range map[string]int{"1": 1, "$LATEST": 0} {
		got, err := f.client.GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("f"), Qualifier: &qualifier})
		if err != nil || len(got.Layers) != want || want == 1 && (*got.Layers[0].Arn != arn || got.Layers[0].CodeSize == 0) {
			t.Errorf("version %s has the layers %v, %v; want %d", qualifier, got.Layers, err, want)
		}
	}
	if next := f.publish(t, "l", zipOf(t, "y")); !strings.HasSuffix(next, ":2") {
		t.Errorf("the number of a deleted version was given again: %s", next)
	}
}

// TestLayerNumbers: publishing at the same time gives every version a number of its own.
func TestLayerNumbers(t *testing.T) {
	f := start(t)
	seen, all := sync.Map{}, sync.WaitGroup{}
	for i := range 20 {
		all.Go(func() {
			out, err := f.client.PublishLayerVersion(t.Context(), &sdk.PublishLayerVersionInput{
				LayerName: aws.String("l"), Content: &types.LayerVersionContentInput{ZipFile: zipOf(t, fmt.Sprint(i))}})
			if err != nil {
				t.Error(err)
			} else if _, twice := seen.LoadOrStore(out.Version, true); twice || out.Version < 1 || out.Version > 20 {
				t.Errorf("version %d, perhaps twice", out.Version)
			}
		})
	}
	all.Wait()
}

func TestLayerFilters(t *testing.T) {
	f := start(t)
	f.publish(t, "python", zipOf(t, "x"), types.RuntimePython312)
	f.publish(t, "both", zipOf(t, "x"), types.RuntimePython312, types.RuntimeNodejs20x)
	f.publish(t, "both", zipOf(t, "y"), types.RuntimeNodejs20x)
	for runtime, want := range map[types.Runtime]string{types.RuntimePython312: "both:1 python:1 ", types.RuntimeNodejs20x: "both:2 ", "": "both:2 python:1 "} {
		out, err := f.client.ListLayers(t.Context(), &sdk.ListLayersInput{CompatibleRuntime: runtime})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, l := range out.Layers {
			got += fmt.Sprintf("%s:%d ", *l.LayerName, l.LatestMatchingVersion.Version)
		}
		if got != want {
			t.Errorf("layers for %q: %s, want %s", runtime, got, want)
		}
	}
}

func TestLayerDownload(t *testing.T) {
	f := start(t)
	content := zipOf(t, "content")
	arn := f.publish(t, "l", content)
	out, err := f.client.GetLayerVersionByArn(t.Context(), &sdk.GetLayerVersionByArnInput{Arn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(*out.Content.Location)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, content) || int64(len(got)) != out.Content.CodeSize {
		t.Errorf("%s: %d bytes, %v", res.Status, len(got), err)
	}
	_, err = f.client.PublishLayerVersion(t.Context(), &sdk.PublishLayerVersionInput{LayerName: aws.String("l"),
		Content: &types.LayerVersionContentInput{S3Bucket: aws.String("bucket"), S3Key: aws.String("key")}})
	wantCode(t, err, lambda.InvalidParameterValue, "This server has no S3")
}
