package apiserver_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go/middleware"

	"berth/lambda"
)

// terraform is the calls of Terraform's AWS provider, in its order: a plan without a difference reads the same twice.
type terraform struct {
	*testing.T
	*fixture
	fn *string
}

// get keeps one answer, or that there is none. An error of another kind would fail a whole plan.
func get[In, Out any](tf *terraform, call func(*In) (*Out, error), in *In) any {
	tf.Helper()
	out, err := call(in)
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) {
		return "none"
	}
	if err != nil {
		tf.Fatalf("%T: %v", in, err)
	}
	reflect.ValueOf(out).Elem().FieldByName("ResultMetadata").Set(reflect.ValueOf(middleware.Metadata{}))
	return out
}

// read is what a refresh of all resources asks for.
func (tf *terraform) read(mapping *string) string {
	tf.Helper()
	ctx, c := tf.Context(), tf.client
	function, _ := get(tf, func(in *sdk.GetFunctionInput) (*sdk.GetFunctionOutput, error) { return c.GetFunction(ctx, in) }, &sdk.GetFunctionInput{FunctionName: tf.fn}).(*sdk.GetFunctionOutput)
	function.Code.Location = nil // signed anew each time
	seen := []any{
		function,
		get(tf, func(in *sdk.ListVersionsByFunctionInput) (*sdk.ListVersionsByFunctionOutput, error) {
			return c.ListVersionsByFunction(ctx, in)
		}, &sdk.ListVersionsByFunctionInput{FunctionName: tf.fn, MaxItems: aws.Int32(10000)}),
		get(tf, func(in *sdk.GetFunctionCodeSigningConfigInput) (*sdk.GetFunctionCodeSigningConfigOutput, error) {
			return c.GetFunctionCodeSigningConfig(ctx, in)
		}, &sdk.GetFunctionCodeSigningConfigInput{FunctionName: tf.fn}),
		get(tf, func(in *sdk.GetFunctionConcurrencyInput) (*sdk.GetFunctionConcurrencyOutput, error) {
			return c.GetFunctionConcurrency(ctx, in)
		}, &sdk.GetFunctionConcurrencyInput{FunctionName: tf.fn}),
		get(tf, func(in *sdk.GetRuntimeManagementConfigInput) (*sdk.GetRuntimeManagementConfigOutput, error) {
			return c.GetRuntimeManagementConfig(ctx, in)
		}, &sdk.GetRuntimeManagementConfigInput{FunctionName: tf.fn}),
		get(tf, func(in *sdk.GetFunctionRecursionConfigInput) (*sdk.GetFunctionRecursionConfigOutput, error) {
			return c.GetFunctionRecursionConfig(ctx, in)
		}, &sdk.GetFunctionRecursionConfigInput{FunctionName: tf.fn}),
		get(tf, func(in *sdk.GetPolicyInput) (*sdk.GetPolicyOutput, error) { return c.GetPolicy(ctx, in) }, &sdk.GetPolicyInput{FunctionName: tf.fn}),
		get(tf, func(in *sdk.ListTagsInput) (*sdk.ListTagsOutput, error) { return c.ListTags(ctx, in) }, &sdk.ListTagsInput{Resource: function.Configuration.FunctionArn}),
		get(tf, func(in *sdk.GetAliasInput) (*sdk.GetAliasOutput, error) { return c.GetAlias(ctx, in) }, &sdk.GetAliasInput{FunctionName: tf.fn, Name: aws.String("live")}),
		get(tf, func(in *sdk.GetLayerVersionInput) (*sdk.GetLayerVersionOutput, error) {
			out, err := c.GetLayerVersion(ctx, in)
			if err == nil {
				out.Content.Location = nil
			}
			return out, err
		}, &sdk.GetLayerVersionInput{LayerName: aws.String("libs"), VersionNumber: aws.Int64(1)}),
	}
	if mapping != nil {
		seen = append(seen, get(tf, func(in *sdk.GetEventSourceMappingInput) (*sdk.GetEventSourceMappingOutput, error) {
			return c.GetEventSourceMapping(ctx, in)
		}, &sdk.GetEventSourceMappingInput{UUID: mapping}))
	}
	text, err := json.Marshal(seen)
	if err != nil {
		tf.Fatal(err)
	}
	return string(text)
}

// plan reads twice and wants no difference.
func (tf *terraform) plan(mapping *string) string {
	tf.Helper()
	first, second := tf.read(mapping), tf.read(mapping)
	if first != second {
		tf.Errorf("a plan shows a difference:\n%s\n%s", first, second)
	}
	return first
}

func (tf *terraform) ok(err error) {
	tf.Helper()
	if err != nil {
		tf.Fatal(err)
	}
}

// TestTerraform creates, reads, changes and destroys a function with all that belongs to it.
func TestTerraform(t *testing.T) {
	f, ctx := start(t), t.Context()
	tf, c := &terraform{t, f, aws.String("app")}, f.client
	published, err := c.PublishLayerVersion(ctx, &sdk.PublishLayerVersionInput{LayerName: aws.String("libs"), Content: &types.LayerVersionContentInput{ZipFile: zipOf(t, "lib")},
		CompatibleRuntimes: []types.Runtime{types.RuntimePython312}, LicenseInfo: aws.String("MIT"), Description: aws.String("libraries")})
	tf.ok(err)
	in := input(t, *tf.fn)
	in.Layers, in.Tags, in.Publish = []string{*published.LayerVersionArn}, map[string]string{"env": "test"}, true
	in.Environment = &types.Environment{Variables: map[string]string{"STAGE": "1"}}
	_, err = c.CreateFunction(ctx, in)
	tf.ok(err)
	f.waitActive(t, *tf.fn)
	_, err = c.PutFunctionConcurrency(ctx, &sdk.PutFunctionConcurrencyInput{FunctionName: tf.fn, ReservedConcurrentExecutions: aws.Int32(5)})
	tf.ok(err)
	_, err = c.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: tf.fn, Name: aws.String("live"), FunctionVersion: aws.String("1")})
	tf.ok(err)
	_, err = c.AddPermission(ctx, &sdk.AddPermissionInput{FunctionName: tf.fn, StatementId: aws.String("s3"), Action: aws.String("lambda:InvokeFunction"),
		Principal: aws.String("s3.amazonaws.com"), SourceArn: aws.String("arn:aws:s3:::bucket")})
	tf.ok(err)
	m, err := c.CreateEventSourceMapping(ctx, &sdk.CreateEventSourceMappingInput{FunctionName: tf.fn, EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000001:jobs"), Tags: map[string]string{"a": "b"}})
	tf.ok(err)
	created := tf.plan(m.UUID)
	enabled(tf, m.UUID)

	_, err = c.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: tf.fn, MemorySize: aws.Int32(256), Layers: []string{}})
	tf.ok(err)
	f.waitUpdated(t, *tf.fn)
	_, err = c.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: tf.fn, ZipFile: zipOf(t, "v2"), Publish: true})
	tf.ok(err)
	f.waitUpdated(t, *tf.fn)
	_, err = c.TagResource(ctx, &sdk.TagResourceInput{Resource: aws.String(prefix + *tf.fn), Tags: map[string]string{"env": "prod"}})
	tf.ok(err)
	_, err = c.UpdateAlias(ctx, &sdk.UpdateAliasInput{FunctionName: tf.fn, Name: aws.String("live"), FunctionVersion: aws.String("2")})
	tf.ok(err)
	_, err = c.UpdateEventSourceMapping(ctx, &sdk.UpdateEventSourceMappingInput{UUID: m.UUID, FunctionName: tf.fn, BatchSize: aws.Int32(5)})
	tf.ok(err)
	if changed := tf.plan(m.UUID); changed == created {
		t.Error("the changes do not show")
	}
	tf.destroy(m.UUID)
}

// enabled: Terraform plans a change for ever if a mapping that shall be enabled is not.
func enabled(tf *terraform, mapping *string) {
	tf.Helper()
	out, err := tf.client.GetEventSourceMapping(tf.Context(), &sdk.GetEventSourceMappingInput{UUID: mapping})
	tf.ok(err)
	if aws.ToString(out.State) != "Enabled" || len(aws.ToString(out.LastProcessingResult)) < 20 {
		tf.Errorf("an enabled mapping shows %s, %q; want Enabled and why nothing comes", aws.ToString(out.State), aws.ToString(out.LastProcessingResult))
	}
}

// destroy removes everything in Terraform's order, and expects that nothing is left.
func (tf *terraform) destroy(mapping *string) {
	tf.Helper()
	ctx, c := tf.Context(), tf.client
	_, err := c.DeleteEventSourceMapping(ctx, &sdk.DeleteEventSourceMappingInput{UUID: mapping})
	tf.ok(err)
	_, err = c.GetEventSourceMapping(ctx, &sdk.GetEventSourceMappingInput{UUID: mapping})
	wantCode(tf.T, err, lambda.ResourceNotFound, "does not exist")
	_, err = c.RemovePermission(ctx, &sdk.RemovePermissionInput{FunctionName: tf.fn, StatementId: aws.String("s3")})
	tf.ok(err)
	_, err = c.DeleteAlias(ctx, &sdk.DeleteAliasInput{FunctionName: tf.fn, Name: aws.String("live")})
	tf.ok(err)
	_, err = c.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: tf.fn})
	tf.ok(err)
	_, err = c.DeleteLayerVersion(ctx, &sdk.DeleteLayerVersionInput{LayerName: aws.String("libs"), VersionNumber: aws.Int64(1)})
	tf.ok(err)
	_, err = c.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: tf.fn})
	wantCode(tf.T, err, lambda.ResourceNotFound, "Function not found")
	_, err = c.GetLayerVersion(ctx, &sdk.GetLayerVersionInput{LayerName: aws.String("libs"), VersionNumber: aws.Int64(1)})
	wantCode(tf.T, err, lambda.ResourceNotFound, "does not exist")
}
