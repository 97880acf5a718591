package apiserver_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
)

// TestCodeSigning: a configuration that enforces signatures refuses code, and stays while functions have it.
func TestCodeSigning(t *testing.T) {
	f, ctx := start(t), t.Context()
	made, err := f.client.CreateCodeSigningConfig(ctx, &sdk.CreateCodeSigningConfigInput{
		AllowedPublishers:   &types.AllowedPublishers{SigningProfileVersionArns: []string{"arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1"}},
		CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: types.CodeSigningPolicyEnforce}, Tags: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	arn := made.CodeSigningConfig.CodeSigningConfigArn
	in := input(t, "f")
	in.CodeSigningConfigArn = arn
	_, err = f.client.CreateFunction(ctx, in)
	wantCode(t, err, lambda.CodeVerification, "set the policy to Warn")
	f.create(t, "f")
	if _, err := f.client.PutFunctionCodeSigningConfig(ctx, &sdk.PutFunctionCodeSigningConfigInput{FunctionName: aws.String("f"), CodeSigningConfigArn: arn}); err != nil {
		t.Fatal(err)
	}
	code := &sdk.UpdateFunctionCodeInput{FunctionName: aws.String("f"), ZipFile: zipOf(t, "v2")}
	_, err = f.client.UpdateFunctionCode(ctx, code)
	wantCode(t, err, lambda.CodeVerification, "set the policy to Warn")
	_, err = f.client.DeleteCodeSigningConfig(ctx, &sdk.DeleteCodeSigningConfigInput{CodeSigningConfigArn: arn})
	wantCode(t, err, lambda.ResourceConflict, "in use by function f")
	if _, err := f.client.UpdateCodeSigningConfig(ctx, &sdk.UpdateCodeSigningConfigInput{CodeSigningConfigArn: arn,
		CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: types.CodeSigningPolicyWarn}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.UpdateFunctionCode(ctx, code); err != nil {
		t.Error(err)
	}
	tags, err := f.client.ListTags(ctx, &sdk.ListTagsInput{Resource: arn})
	if err != nil || tags.Tags["k"] != "v" {
		t.Errorf("tags: %v, %v", tags, err)
	}
	f.waitUpdated(t, "f")
	if _, err := f.client.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.DeleteCodeSigningConfig(ctx, &sdk.DeleteCodeSigningConfigInput{CodeSigningConfigArn: arn}); err != nil {
		t.Error(err)
	}
	_, err = f.client.PutFunctionCodeSigningConfig(ctx, &sdk.PutFunctionCodeSigningConfigInput{FunctionName: aws.String("f"), CodeSigningConfigArn: arn})
	wantCode(t, err, lambda.ResourceNotFound, "Function not found")
	f.create(t, "g")
	_, err = f.client.PutFunctionCodeSigningConfig(ctx, &sdk.PutFunctionCodeSigningConfigInput{FunctionName: aws.String("g"), CodeSigningConfigArn: arn})
	wantCode(t, err, lambda.CodeSigningMissing, "cannot be found")
}

// TestMappingsOfOneSource: a second mapping of the same source and function is refused, also when both come at once.
func TestMappingsOfOneSource(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			_, err := f.client.CreateEventSourceMapping(t.Context(), &sdk.CreateEventSourceMappingInput{FunctionName: aws.String("f"), EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000001:q")})
			results <- err
		}()
	}
	good := 0
	for range cap(results) {
		if err := <-results; err == nil {
			good++
		} else {
			wantCode(t, err, lambda.ResourceConflict, "already exists. Please update or delete the existing mapping with UUID ")
		}
	}
	list, err := f.client.ListEventSourceMappings(t.Context(), &sdk.ListEventSourceMappingsInput{EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000001:q")})
	if good != 1 || err != nil || len(list.EventSourceMappings) != 1 {
		t.Errorf("%d of %d were made; listed: %v, %v", good, cap(results), list, err)
	}
	other, err := f.client.ListEventSourceMappings(t.Context(), &sdk.ListEventSourceMappingsInput{FunctionName: aws.String("g")})
	if err != nil || len(other.EventSourceMappings) != 0 {
		t.Errorf("another function's: %v, %v", other, err)
	}
}
