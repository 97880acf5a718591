package apiserver_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
)

func isolate(in *sdk.CreateFunctionInput) *sdk.CreateFunctionInput {
	in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
	return in
}

// createIsolated makes a function with tenant isolation and waits until it is Active.
func (f *fixture) createIsolated(t *testing.T, name string) *sdk.CreateFunctionOutput {
	t.Helper()
	out, err := f.client.CreateFunction(t.Context(), isolate(input(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	f.waitActive(t, name)
	return out
}

// TestF7_TenantIDs is for the kinds of call that the API server decides on itself; synchronous ones are the frontend's (e2e).
func TestF7_TenantIDs(t *testing.T) {
	f := start(t)
	f.createIsolated(t, "isolated")
	f.create(t, "plain")
	call := func(function string, kind types.InvocationType, tenant *string) error {
		_, err := f.client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: &function, InvocationType: kind, TenantId: tenant})
		return err
	}
	for _, kind := range []types.InvocationType{types.InvocationTypeDryRun, types.InvocationTypeEvent} {
		wantCode(t, call("isolated", kind, nil), lambda.InvalidParameterValue,
			"The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.")
		wantCode(t, call("plain", kind, aws.String("blue")), lambda.InvalidParameterValue, "The invoked function is not enabled with tenancy configuration.")
		for _, malformed := range []string{"a*b", "*", "blue\u00e9", "a,b", strings.Repeat("x", 257)} {
			wantCode(t, call("isolated", kind, &malformed), lambda.Validation, "at 'tenantId' failed to satisfy constraint: Member must")
		}
	}
	for _, good := range []string{"blue", "a.B_c:d/e=f+g-h@i j", strings.Repeat("x", 256)} {
		if err := call("isolated", types.InvocationTypeDryRun, &good); err != nil {
			t.Errorf("tenant %.20q: %v", good, err)
		}
	}
}

func TestF8_IsolationIsForEverAndExcludesOthers(t *testing.T) {
	f, ctx := start(t), t.Context()
	out := f.createIsolated(t, "f")
	if out.TenancyConfig == nil || out.TenancyConfig.TenantIsolationMode != types.TenantIsolationModePerTenant {
		t.Fatalf("TenancyConfig %+v", out.TenancyConfig)
	}
	name := aws.String("f")
	_, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: name,
		SnapStart: &types.SnapStart{ApplyOn: types.SnapStartApplyOnPublishedVersions}})
	wantCode(t, err, lambda.InvalidParameterValue, "SnapStart is not supported")
	if _, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: name, Description: aws.String("new")}); err != nil {
		t.Fatal(err)
	}
	f.waitUpdated(t, "f")
	version, err := f.client.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: name})
	if err != nil || version.TenancyConfig == nil {
		t.Fatalf("after a change and a publication the isolation is %+v, %v", version, err)
	}
	_, err = f.client.PutProvisionedConcurrencyConfig(ctx, &sdk.PutProvisionedConcurrencyConfigInput{FunctionName: name, Qualifier: version.Version,
		ProvisionedConcurrentExecutions: aws.Int32(1)})
	wantCode(t, err, lambda.InvalidParameterValue, "Provisioned concurrency is not supported for functions with tenant isolation")
	_, err = f.client.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{FunctionName: name, AuthType: types.FunctionUrlAuthTypeNone})
	wantCode(t, err, lambda.InvalidParameterValue, "A function URL is not supported for functions with tenant isolation")
	_, err = f.client.CreateEventSourceMapping(ctx, &sdk.CreateEventSourceMappingInput{FunctionName: name,
		EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000001:q")})
	wantCode(t, err, lambda.InvalidParameterValue, "An event source mapping is not supported for functions with tenant isolation")
	f.create(t, "plain")
	plain, err := f.client.GetFunctionConfiguration(ctx, &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("plain")})
	if err != nil || plain.TenancyConfig != nil {
		t.Errorf("a function without isolation shows %+v, %v", plain.TenancyConfig, err)
	}
}

// TestKeysArePublic: without keys the set is empty; it needs no signature.
func TestKeysArePublic(t *testing.T) {
	f := start(t)
	res, err := http.Get(f.URL + "/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || string(body) != `{"keys":[]}` {
		t.Errorf("%d %s %v", res.StatusCode, body, err)
	}
}
