package apiserver_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

const otherAccount lambda.AccountID = "000000000002"

// keyFor makes a key; user "" is the root, policy "" is no policy.
func (f *fixture) keyFor(t testing.TB, account lambda.AccountID, user, policy string) lambda.AccessKey {
	t.Helper()
	if _, err := f.catalog.CreateAccount(t.Context(), account); err != nil && lambda.CodeOf(err) != lambda.ResourceConflict {
		t.Fatal(err)
	}
	k, err := f.catalog.CreateKey(t.Context(), account, user, policy)
	if err != nil {
		t.Fatal(err)
	}
	return k.AccessKey
}

// as returns a client that signs with a key.
func (f *fixture) as(key lambda.AccessKey) *sdk.Client {
	return sdk.New(sdk.Options{
		Region: region, BaseEndpoint: &f.URL, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: key.ID, SecretAccessKey: key.Secret}, nil
		}),
	})
}

func allow(action, resource string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"` + resource + `"}]}`
}

// permit adds a statement to a function's policy.
func (f *fixture) permit(t testing.TB, function, qualifier, principal, action string) {
	t.Helper()
	in := &sdk.AddPermissionInput{FunctionName: &function, StatementId: aws.String("s" + strconv.Itoa(len(action))), Action: &action, Principal: &principal}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	if _, err := f.client.AddPermission(t.Context(), in); err != nil {
		t.Fatal(err)
	}
}

func invokeAs(t testing.TB, c *sdk.Client, function string) error {
	t.Helper()
	_, err := c.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: &function})
	return err
}

const (
	noIdentity = "because no identity-based policy allows the lambda:InvokeFunction action"
	noResource = "because no resource-based policy allows the lambda:InvokeFunction action"
)

func TestCallsBetweenAccounts(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	if _, err := f.client.PublishVersion(t.Context(), &sdk.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	root := f.as(f.keyFor(t, otherAccount, "", ""))
	ann := f.as(f.keyFor(t, otherAccount, "ann", allow("lambda:InvokeFunction", prefix+"f*")))
	bob := f.as(f.keyFor(t, otherAccount, "bob", allow("lambda:GetFunction", "*")))
	who := "User: arn:aws:iam::000000000002:root is not authorized to perform: lambda:InvokeFunction on resource: "

	// Without a policy nothing, and nobody learns what exists.
	wantCode(t, invokeAs(t, root, prefix+"f"), lambda.AccessDenied, who+prefix+"f "+noResource)
	wantCode(t, invokeAs(t, root, prefix+"none"), lambda.AccessDenied, who+prefix+"none "+noResource)
	wantCode(t, invokeAs(t, bob, prefix+"f"), lambda.AccessDenied, "User: arn:aws:iam::000000000002:user/bob is not authorized to perform: lambda:InvokeFunction on resource: "+prefix+"f "+noIdentity)
	if !strings.Contains(f.logs.String(), "level=INFO msg=\"access denied\"") || !strings.Contains(f.logs.String(), "caller=arn:aws:iam::000000000002:user/bob") {
		t.Errorf("denials are not logged: %s", f.logs)
	}

	// The function's own policy opens the function, no version of it.
	f.permit(t, "f", "", string(otherAccount), "lambda:InvokeFunction")
	for _, c := range []*sdk.Client{root, ann} {
		if err := invokeAs(t, c, prefix+"f"); err != nil {
			t.Errorf("allowed by both policies: %v", err)
		}
		wantCode(t, invokeAs(t, c, prefix+"f:1"), lambda.AccessDenied, noResource)
		wantCode(t, invokeAs(t, c, prefix+"f:$LATEST"), lambda.AccessDenied, noResource)
	}
	wantCode(t, invokeAs(t, bob, prefix+"f"), lambda.AccessDenied, noIdentity)

	// A version's policy opens that version.
	f.permit(t, "f", "1", "arn:aws:iam::000000000002:user/ann", "lambda:InvokeFunction")
	if err := invokeAs(t, ann, prefix+"f:1"); err != nil {
		t.Errorf("by a version's policy: %v", err)
	}
	wantCode(t, invokeAs(t, root, prefix+"f:1"), lambda.AccessDenied, noResource)

	// Asynchronous calls and dry runs pass the same gate.
	for _, kind := range []types.InvocationType{types.InvocationTypeEvent, types.InvocationTypeDryRun} {
		if _, err := ann.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String(prefix + "f"), InvocationType: kind}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		_, err := bob.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String(prefix + "f"), InvocationType: kind})
		wantCode(t, err, lambda.AccessDenied, noIdentity)
	}
	//lint:ignore SA1019 deprecated, and still there
	_, err := root.InvokeAsync(t.Context(), &sdk.InvokeAsyncInput{FunctionName: aws.String(prefix + "f"), InvokeArgs: strings.NewReader("{}")})
	wantCode(t, err, lambda.AccessDenied, "because no resource-based policy allows the lambda:InvokeAsync action")
}

func TestOperationsBetweenAccounts(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	f.create(t, "g")
	root := f.as(f.keyFor(t, otherAccount, "", ""))
	name := aws.String(prefix + "f")
	get := func(n *string) error {
		_, err := root.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: n})
		return err
	}
	wantCode(t, get(name), lambda.AccessDenied, "lambda:GetFunction on resource: "+prefix+"f because no resource-based")
	f.permit(t, "f", "", string(otherAccount), "lambda:GetFunction")
	f.permit(t, "f", "", string(otherAccount), "lambda:*")
	if err := get(name); err != nil {
		t.Errorf("GetFunction: %v", err)
	}
	wantCode(t, get(aws.String(prefix+"g")), lambda.AccessDenied, "no resource-based")

	// What a function's policy opens acts on the owner's function.
	if _, err := root.TagResource(t.Context(), &sdk.TagResourceInput{Resource: name, Tags: map[string]string{"by": "other"}}); err != nil {
		t.Errorf("TagResource: %v", err)
	}
	if tags, err := f.client.ListTags(t.Context(), &sdk.ListTagsInput{Resource: name}); err != nil || tags.Tags["by"] != "other" {
		t.Errorf("the owner sees %v, %v", tags, err)
	}
	if _, err := root.CreateAlias(t.Context(), &sdk.CreateAliasInput{FunctionName: name, Name: aws.String("a"), FunctionVersion: aws.String("$LATEST")}); err != nil {
		t.Errorf("CreateAlias: %v", err)
	}
	if _, ok := f.catalog.Alias(catalog.ID{Account: catalog.FirstAccount, Name: "f"}, "a"); !ok {
		t.Error("the alias is not the owner's")
	}

	// What it does not open stays shut, whatever the policy says.
	_, err := root.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: name, Timeout: aws.Int32(9)})
	wantCode(t, err, lambda.AccessDenied, "lambda:UpdateFunctionConfiguration on resource: "+prefix+"f because no resource-based policy allows")
	_, err = root.AddPermission(t.Context(), &sdk.AddPermissionInput{FunctionName: name, StatementId: aws.String("x"), Action: aws.String("lambda:*"), Principal: aws.String("*")})
	wantCode(t, err, lambda.AccessDenied, "no resource-based policy")
	_, err = root.CreateFunction(t.Context(), input(t, prefix+"new"))
	wantCode(t, err, lambda.AccessDenied, "no resource-based policy")
	_, err = root.CreateEventSourceMapping(t.Context(), &sdk.CreateEventSourceMappingInput{FunctionName: name, EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000002:q")})
	wantCode(t, err, lambda.AccessDenied, "")
	if _, err := f.client.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Errorf("the owner: %v", err)
	}

	// The owner's code signing holds for everybody.
	signing, err := f.client.CreateCodeSigningConfig(t.Context(), &sdk.CreateCodeSigningConfigInput{
		AllowedPublishers:   &types.AllowedPublishers{SigningProfileVersionArns: []string{"arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1"}},
		CodeSigningPolicies: &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: types.CodeSigningPolicyEnforce}})
	if err != nil {
		t.Fatal(err)
	}
	update := func() error {
		_, err := root.UpdateFunctionCode(t.Context(), &sdk.UpdateFunctionCodeInput{FunctionName: name, ZipFile: zipOf(t, "v2")})
		return err
	}
	if err := update(); err != nil {
		t.Errorf("UpdateFunctionCode: %v", err)
	}
	f.waitUpdated(t, "f")
	if _, err := f.client.PutFunctionCodeSigningConfig(t.Context(), &sdk.PutFunctionCodeSigningConfigInput{FunctionName: name, CodeSigningConfigArn: signing.CodeSigningConfig.CodeSigningConfigArn}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, update(), lambda.CodeVerification, "code signing policy")

	// With permission, what is missing is missing.
	if _, err := root.DeleteAlias(t.Context(), &sdk.DeleteAliasInput{FunctionName: name, Name: aws.String("a")}); err != nil {
		t.Errorf("DeleteAlias: %v", err)
	}
	_, err = root.GetAlias(t.Context(), &sdk.GetAliasInput{FunctionName: name, Name: aws.String("a")})
	wantCode(t, err, lambda.ResourceNotFound, "Cannot find alias arn")
}

func TestIdentityPolicies(t *testing.T) {
	f := start(t)
	f.create(t, "intern-f")
	f.create(t, "prod-f")
	intern := f.as(f.keyFor(t, catalog.FirstAccount, "ann", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","NotAction":["lambda:AddPermission","lambda:PutFunctionConcurrency"],"Resource":"arn:aws:lambda:*:*:function:intern-*"},
		{"Effect":"Allow","Action":"lambda:ListFunctions","Resource":"*"},
		{"Sid":"NoDelete","Effect":"Deny","Action":"lambda:DeleteFunction","Resource":"*"}]}`))
	ctx := t.Context()

	if err := invokeAs(t, intern, "intern-f"); err != nil {
		t.Error(err)
	}
	wantCode(t, invokeAs(t, intern, "prod-f"), lambda.AccessDenied,
		"User: arn:aws:iam::000000000001:user/ann is not authorized to perform: lambda:InvokeFunction on resource: "+prefix+"prod-f "+noIdentity)
	wantCode(t, invokeAs(t, intern, "none"), lambda.AccessDenied, noIdentity)
	wantCode(t, invokeAs(t, intern, "intern-none"), lambda.ResourceNotFound, "intern-none")
	if _, err := intern.ListFunctions(ctx, &sdk.ListFunctionsInput{}); err != nil {
		t.Error(err)
	}
	if _, err := intern.CreateFunction(ctx, input(t, "intern-g")); err != nil {
		t.Error(err)
	}
	_, err := intern.CreateFunction(ctx, input(t, "prod-g"))
	wantCode(t, err, lambda.AccessDenied, "lambda:CreateFunction on resource: "+prefix+"prod-g because no identity-based")
	_, err = intern.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: aws.String("intern-f")})
	wantCode(t, err, lambda.AccessDenied, "with an explicit deny in an identity-based policy")
	_, err = intern.PutFunctionConcurrency(ctx, &sdk.PutFunctionConcurrencyInput{FunctionName: aws.String("intern-f"), ReservedConcurrentExecutions: aws.Int32(1)})
	wantCode(t, err, lambda.AccessDenied, "because no identity-based policy allows the lambda:PutFunctionConcurrency action")
	_, err = intern.ListLayers(ctx, &sdk.ListLayersInput{})
	wantCode(t, err, lambda.AccessDenied, "lambda:ListLayers on resource: * because")

	// A resource policy that names the user is enough in one account; one that names the account is not.
	f.permit(t, "prod-f", "", string(catalog.FirstAccount), "lambda:InvokeFunction")
	wantCode(t, invokeAs(t, intern, "prod-f"), lambda.AccessDenied, noIdentity)
	f.permit(t, "prod-f", "", "arn:aws:iam::000000000001:user/ann", "lambda:GetFunction")
	if _, err := intern.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: aws.String("prod-f")}); err != nil {
		t.Errorf("by the function's policy: %v", err)
	}
}

// TestQualifierIsNoWayAround: what an operation does not take does not count in what is judged.
func TestQualifierIsNoWayAround(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	c := f.as(f.keyFor(t, catalog.FirstAccount, "ann", allow("lambda:*", prefix+"f:*")))
	_, err := c.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f:x"), Timeout: aws.Int32(9)})
	wantCode(t, err, lambda.AccessDenied, "on resource: "+prefix+"f because")
	_, err = c.GetFunctionConcurrency(t.Context(), &sdk.GetFunctionConcurrencyInput{FunctionName: aws.String("f:1")})
	wantCode(t, err, lambda.AccessDenied, "on resource: "+prefix+"f because")
	if _, err := c.GetFunction(t.Context(), &sdk.GetFunctionInput{FunctionName: aws.String("f:$LATEST")}); err != nil {
		t.Error(err)
	}
	denied := f.as(f.keyFor(t, catalog.FirstAccount, "bob", `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","Resource":"`+prefix+`f"}]}`))
	for _, name := range []string{"f", "000000000001:f", "arn:aws-cn:lambda:us-east-1:000000000001:function:f", "function:f"} {
		wantCode(t, invokeAs(t, denied, name), lambda.AccessDenied, "explicit deny")
	}
	_, err = denied.ListTags(t.Context(), &sdk.ListTagsInput{Resource: aws.String("arn:aws-cn:lambda:us-east-1:000000000001:function:f")})
	wantCode(t, err, lambda.AccessDenied, "explicit deny")
}

func TestDeletedKeyOpensNothing(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	key := f.keyFor(t, catalog.FirstAccount, "ann", allow("*", "*"))
	if err := invokeAs(t, f.as(key), "f"); err != nil {
		t.Fatal(err)
	}
	if err := f.catalog.DeleteKey(t.Context(), key.ID); err != nil {
		t.Fatal(err)
	}
	wantCode(t, invokeAs(t, f.as(key), "f"), lambda.UnrecognizedClient, "security token")
}

func TestLayersOfOtherAccounts(t *testing.T) {
	f := start(t)
	ctx := t.Context()
	made, err := f.client.PublishLayerVersion(ctx, &sdk.PublishLayerVersionInput{LayerName: aws.String("l"), Content: &types.LayerVersionContentInput{ZipFile: zipOf(t, "x")}})
	if err != nil {
		t.Fatal(err)
	}
	root := f.as(f.keyFor(t, otherAccount, "", ""))
	ann := f.as(f.keyFor(t, otherAccount, "ann", allow("lambda:CreateFunction", "*")))
	get := func(c *sdk.Client) error {
		_, err := c.GetLayerVersion(ctx, &sdk.GetLayerVersionInput{LayerName: made.LayerArn, VersionNumber: &made.Version})
		return err
	}
	use := func(c *sdk.Client, name string) error {
		in := input(t, name)
		in.Role, in.Layers = aws.String("arn:aws:iam::000000000002:role/test"), []string{*made.LayerVersionArn}
		_, err := c.CreateFunction(ctx, in)
		return err
	}
	refused := "is not authorized to perform: lambda:GetLayerVersion on resource: " + *made.LayerVersionArn + " because no resource-based policy allows the lambda:GetLayerVersion action"
	wantCode(t, get(root), lambda.AccessDenied, refused)
	wantCode(t, use(root, "u"), lambda.AccessDenied, refused)

	_, err = f.client.AddLayerVersionPermission(ctx, &sdk.AddLayerVersionPermissionInput{LayerName: aws.String("l"), VersionNumber: &made.Version,
		StatementId: aws.String("s"), Action: aws.String("lambda:GetLayerVersion"), Principal: aws.String("*")})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(get(root), use(root, "u")); err != nil {
		t.Error(err)
	}
	byARN, err := root.GetLayerVersionByArn(ctx, &sdk.GetLayerVersionByArnInput{Arn: made.LayerVersionArn})
	if err != nil || byARN.Version != made.Version {
		t.Errorf("by ARN: %+v, %v", byARN, err)
	}
	// The identity policy counts as well, and nobody changes another's layer.
	wantCode(t, use(ann, "v"), lambda.AccessDenied, "because no identity-based policy allows the lambda:GetLayerVersion action")
	_, err = root.DeleteLayerVersion(ctx, &sdk.DeleteLayerVersionInput{LayerName: made.LayerArn, VersionNumber: &made.Version})
	wantCode(t, err, lambda.AccessDenied, "")
	_, err = root.AddLayerVersionPermission(ctx, &sdk.AddLayerVersionPermissionInput{LayerName: made.LayerArn, VersionNumber: &made.Version,
		StatementId: aws.String("t"), Action: aws.String("lambda:GetLayerVersion"), Principal: aws.String("*")})
	wantCode(t, err, lambda.AccessDenied, "")
}

// TestContextKeys: what is judged has the keys that policies name.
func TestContextKeys(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	under := func(condition string) error {
		key := f.keyFor(t, catalog.FirstAccount, "ann", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"lambda:*","Resource":"*","Condition":`+condition+`}}`)
		err := invokeAs(t, f.as(key), "f")
		if err := f.catalog.DeleteKey(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
		return err
	}
	for condition, want := range map[string]bool{
		`{"IpAddress":{"aws:SourceIp":["127.0.0.0/8","::1"]}}`:                            true,
		`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                                     false,
		`{"StringEquals":{"aws:username":"ann","aws:PrincipalAccount":"000000000001"}}`:   true,
		`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/ann"}}`:                      true,
		`{"StringLike":{"aws:userid":"AIDA*"}}`:                                           true,
		`{"Bool":{"aws:SecureTransport":"true"}}`:                                         false,
		`{"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}`:                  true,
		`{"NumericLessThan":{"aws:EpochTime":"1000"}}`:                                    false,
		`{"StringEquals":{"aws:SourceAccount":"000000000001"}}`:                           false,
		`{"Null":{"aws:SourceArn":"true"}}`:                                               true,
		`{"StringEquals":{"aws:ResourceAccount":"${aws:PrincipalAccount}"}}`:              true,
		`{"StringEquals":{"aws:RequestedRegion":"us-east-1","aws:PrincipalType":"User"}}`: true,
	} {
		if err := under(condition); (err == nil) != want {
			t.Errorf("%s: %v, want allowed %v", condition, err, want)
		}
	}
	layers := f.as(f.keyFor(t, catalog.FirstAccount, "bob", `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAllValues:StringLike":{"lambda:Layer":"arn:aws:lambda:*:000000000001:layer:ok:*"}}}}`))
	in := input(t, "g")
	in.Layers = []string{"arn:aws:lambda:us-east-1:000000000001:layer:bad:1"}
	_, err := layers.CreateFunction(t.Context(), in)
	wantCode(t, err, lambda.AccessDenied, "lambda:CreateFunction")
}

// TestPermitURL: without a signature a URL needs a permission for everybody and for its kind of authentication.
func TestPermitURL(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	r, err := http.NewRequest(http.MethodGet, "http://h/", nil)
	if err != nil {
		t.Fatal(err)
	}
	ref := lambda.Ref{Account: catalog.FirstAccount, Region: region, Function: "f"}
	version := ref
	version.Qualifier = "1"
	nobody, root, other := lambda.Caller{}, lambda.Caller{Account: catalog.FirstAccount}, lambda.Caller{Account: otherAccount}
	ask := func(who lambda.Caller, ref lambda.Ref, kind string, want bool) {
		t.Helper()
		if err := f.server.PermitURL(r, "id", who, ref, kind); (err == nil) != want || err != nil && lambda.CodeOf(err) != lambda.AccessDenied {
			t.Errorf("%q on %s with %s: %v, want allowed %v", who.Account, ref.ARN(), kind, err, want)
		}
	}
	ask(nobody, ref, "NONE", false)
	ask(root, ref, "AWS_IAM", true)
	ask(other, ref, "AWS_IAM", false)
	if _, err := f.client.AddPermission(t.Context(), &sdk.AddPermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("url"),
		Action: aws.String("lambda:InvokeFunctionUrl"), Principal: aws.String("*"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone}); err != nil {
		t.Fatal(err)
	}
	ask(nobody, ref, "NONE", true)
	ask(nobody, ref, "AWS_IAM", false)
	ask(nobody, version, "NONE", false)
	ask(other, ref, "AWS_IAM", false)
	if _, err := f.client.AddPermission(t.Context(), &sdk.AddPermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("iam"),
		Action: aws.String("lambda:InvokeFunctionUrl"), Principal: aws.String(string(otherAccount)), FunctionUrlAuthType: types.FunctionUrlAuthTypeAwsIam}); err != nil {
		t.Fatal(err)
	}
	ask(other, ref, "AWS_IAM", true)
}

// TestUnquestionedCallCostsNothing: a key without a policy on its own function builds nothing to be judged.
func TestUnquestionedCallCostsNothing(t *testing.T) {
	f := start(t)
	f.create(t, "f")
	own, err := http.NewRequest(http.MethodPost, "http://h/", nil)
	if err != nil {
		t.Fatal(err)
	}
	who := lambda.Caller{Account: catalog.FirstAccount}
	if n := testing.AllocsPerRun(100, func() {
		if err := f.server.Authorize(own, "id", who, "logs:FilterLogEvents", "r"); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	who.Restricted = true
	if err := f.server.Authorize(own, "id", who, "logs:FilterLogEvents", "r"); lambda.CodeOf(err) != lambda.AccessDenied {
		t.Errorf("a restricted caller without a key: %v", err)
	}
}
