package apiserver_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"berth/lambda"
	"berth/store/memory"
)

// raw keeps the body and headers of an answer.
func raw(body *map[string]any, response **smithyhttp.Response) func(*sdk.Options) {
	return func(o *sdk.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *smithymiddleware.Stack) error {
			return stack.Deserialize.Add(smithymiddleware.DeserializeMiddlewareFunc("keep", func(ctx context.Context, in smithymiddleware.DeserializeInput, next smithymiddleware.DeserializeHandler) (smithymiddleware.DeserializeOutput, smithymiddleware.Metadata, error) {
				out, meta, err := next.HandleDeserialize(ctx, in)
				if res, ok := out.RawResponse.(*smithyhttp.Response); ok {
					if response != nil {
						*response = res
					}
					text, readErr := io.ReadAll(res.Body)
					if readErr != nil {
						return out, meta, readErr
					}
					res.Body = io.NopCloser(strings.NewReader(string(text)))
					if len(text) > 0 {
						if err := json.Unmarshal(text, body); err != nil {
							return out, meta, err
						}
					}
				}
				return out, meta, err
			}), smithymiddleware.After)
		})
	}
}

func keys(m map[string]any) string {
	b, _ := json.Marshal(m) // sorted
	return string(b)
}

func TestCreateAnswersExactly(t *testing.T) {
	f := start(t)
	var body map[string]any
	var res *smithyhttp.Response
	if _, err := f.client.CreateFunction(t.Context(), input(t, "hello"), raw(&body, &res)); err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 201 || res.Header.Get("x-amzn-RequestId") == "" || res.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	for _, volatile := range []string{"CodeSha256", "CodeSize", "LastModified", "RevisionId"} {
		if body[volatile] == nil {
			t.Errorf("no %s", volatile)
		}
		delete(body, volatile)
	}
	want := `{"Architectures":["x86_64"],"Description":"","EphemeralStorage":{"Size":512},"FunctionArn":"` + prefix + `hello",` +
		`"FunctionName":"hello","Handler":"h.handler","LoggingConfig":{"LogFormat":"Text","LogGroup":"/aws/lambda/hello"},` +
		`"MemorySize":128,"PackageType":"Zip","Role":"` + role + `","Runtime":"python3.12",` +
		`"RuntimeVersionConfig":{"RuntimeVersionArn":"arn:aws:lambda:us-east-1::runtime:8eef"},` +
		`"SnapStart":{"ApplyOn":"None","OptimizationStatus":"Off"},"State":"Pending","StateReason":"The function is being created.",` +
		`"StateReasonCode":"Creating","Timeout":3,"TracingConfig":{"Mode":"PassThrough"},"Version":"$LATEST"}`
	if got := keys(body); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
	f.waitActive(t, "hello")
	body = nil
	if _, err := f.client.ListFunctions(t.Context(), &sdk.ListFunctionsInput{}, raw(&body, nil)); err != nil {
		t.Fatal(err)
	}
	listed := keys(body)
	for _, absent := range []string{"State", "LastUpdateStatus", "RuntimeVersionConfig", "NextMarker", "Environment", "VpcConfig"} {
		if strings.Contains(listed, `"`+absent+`"`) {
			t.Errorf("ListFunctions shows %s: %s", absent, listed)
		}
	}
}

func TestLifecycle(t *testing.T) {
	f, ctx := start(t), t.Context()
	in := input(t, "f")
	in.Environment = &types.Environment{Variables: map[string]string{"KEY": "b"}}
	in.Tags = map[string]string{"team": "x"}
	if _, err := f.client.CreateFunction(ctx, in); err != nil {
		t.Fatal(err)
	}
	f.waitActive(t, "f")
	_, err := f.client.CreateFunction(ctx, input(t, "f"))
	var conflict *types.ResourceConflictException
	if !errors.As(err, &conflict) {
		t.Fatal(err)
	}
	out, err := f.client.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f"), Payload: []byte(`{"x":1}`), LogType: types.LogTypeTail})
	if err != nil || string(out.Payload) != `{"x":1}` || aws.ToString(out.ExecutedVersion) != "$LATEST" || aws.ToString(out.LogResult) == "" {
		t.Fatalf("%+v, %v", out, err)
	}
	code, err := f.client.UpdateFunctionCode(ctx, &sdk.UpdateFunctionCodeInput{FunctionName: aws.String(prefix + "f"), ZipFile: zipOf(t, "v2")})
	if err != nil || code.LastUpdateStatus != types.LastUpdateStatusInProgress || code.State != types.StateActive ||
		aws.ToString(code.LastUpdateStatusReason) != "The function is being created." || code.LastUpdateStatusReasonCode != "Creating" {
		t.Fatalf("%+v, %v", code, err)
	}
	f.waitUpdated(t, "f")
	v1, err := f.client.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: aws.String("f"), CodeSha256: code.CodeSha256})
	if err != nil || aws.ToString(v1.Version) != "1" || aws.ToString(v1.FunctionArn) != prefix+"f:1" || v1.State != types.StateActive {
		t.Fatalf("%+v, %v", v1, err)
	}
	if _, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), MemorySize: aws.Int32(256)}); err != nil {
		t.Fatal(err)
	}
	f.waitUpdated(t, "f")
	if _, err := f.client.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	alias, err := f.client.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: aws.String("f"), Name: aws.String("prod"), FunctionVersion: aws.String("1"),
		RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": 0.5}}})
	if err != nil || aws.ToString(alias.AliasArn) != prefix+"f:prod" || alias.RoutingConfig.AdditionalVersionWeights["2"] != 0.5 {
		t.Fatalf("%+v, %v", alias, err)
	}
	ran := map[string]int{}
	for range 60 {
		out, err := f.client.Invoke(ctx, &sdk.InvokeInput{FunctionName: aws.String("f:prod")})
		if err != nil {
			t.Fatal(err)
		}
		ran[aws.ToString(out.ExecutedVersion)]++
	}
	if ran["1"] == 0 || ran["2"] == 0 || len(ran) != 2 {
		t.Fatalf("weighted alias ran %v", ran)
	}
	got, err := f.client.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String("prod")})
	if err != nil || aws.ToString(got.Configuration.FunctionArn) != prefix+"f:prod" || aws.ToString(got.Configuration.Version) != "1" || got.Tags["team"] != "x" {
		t.Fatalf("%+v, %v", got, err)
	}
	res, err := http.Get(aws.ToString(got.Code.Location))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); res.StatusCode != 200 || string(text) != string(zipOf(t, "v2")) {
		t.Fatalf("download: %d, %d bytes", res.StatusCode, len(text))
	}
	for _, q := range []string{"1", "prod"} {
		_, err := f.client.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: aws.String("f"), Qualifier: &q})
		if err == nil {
			t.Fatalf("deleted %s", q)
		}
	}
	if _, err := f.client.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	_, err = f.client.GetFunctionConfiguration(ctx, &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
	wantCode(t, err, lambda.ResourceNotFound, "Function not found: "+prefix+"f")
}

func TestRefusals(t *testing.T) {
	f, ctx := start(t), t.Context()
	f.create(t, "f")
	edit := func(change func(*sdk.CreateFunctionInput)) error {
		in := input(t, "g")
		change(in)
		_, err := f.client.CreateFunction(ctx, in)
		return err
	}
	for name, c := range map[string]struct {
		err  error
		code lambda.Code
		text string
	}{
		"deprecated runtime": {edit(func(in *sdk.CreateFunctionInput) { in.Runtime = "go1.x" }), lambda.InvalidParameterValue,
			"The runtime parameter of go1.x is no longer supported for creating or updating AWS Lambda functions. We recommend you use a supported runtime while creating or updating functions."},
		"unknown runtime": {edit(func(in *sdk.CreateFunctionInput) { in.Runtime = "cobol" }), lambda.InvalidParameterValue, "Value cobol at 'runtime'"},
		"role":            {edit(func(in *sdk.CreateFunctionInput) { in.Role = aws.String("r1") }), lambda.Validation, "Value 'r1' at 'role'"},
		"memory":          {edit(func(in *sdk.CreateFunctionInput) { in.MemorySize = aws.Int32(10241) }), lambda.Validation, "less than or equal to 10240"},
		"timeout":         {edit(func(in *sdk.CreateFunctionInput) { in.Timeout = aws.Int32(901) }), lambda.Validation, "less than or equal to 900"},
		"no handler":      {edit(func(in *sdk.CreateFunctionInput) { in.Handler = nil }), lambda.InvalidParameterValue, "Runtime and Handler are mandatory"},
		"no code":         {edit(func(in *sdk.CreateFunctionInput) { in.Code = &types.FunctionCode{} }), lambda.InvalidParameterValue, "source for function code"},
		"bad zip":         {edit(func(in *sdk.CreateFunctionInput) { in.Code.ZipFile = []byte("no zip") }), lambda.InvalidParameterValue, "Could not unzip uploaded file"},
		"S3": {edit(func(in *sdk.CreateFunctionInput) {
			in.Code = &types.FunctionCode{S3Bucket: aws.String("bucket"), S3Key: aws.String("k")}
		}), lambda.InvalidParameterValue, "no S3"},
		"image": {edit(func(in *sdk.CreateFunctionInput) {
			in.PackageType, in.Code = types.PackageTypeImage, &types.FunctionCode{ImageUri: aws.String("000000000001.dkr.ecr.us-east-1.amazonaws.com/x:1")}
		}), lambda.InvalidParameterValue, "Please don't provide Handler or Runtime"},
		"layer": {edit(func(in *sdk.CreateFunctionInput) {
			in.Layers = []string{"arn:aws:lambda:us-east-1:000000000001:layer:l:1"}
		}), lambda.InvalidParameterValue, "Layer version arn:aws:lambda:us-east-1:000000000001:layer:l:1 does not exist."},
		"isolation of another kind": {edit(func(in *sdk.CreateFunctionInput) {
			in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: "PER_USER"}
		}), lambda.Validation, "at 'tenancyConfig.tenantIsolationMode' failed to satisfy constraint: Member must satisfy enum value set: [PER_TENANT]"},
		"isolation and SnapStart": {edit(func(in *sdk.CreateFunctionInput) {
			in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
			in.SnapStart = &types.SnapStart{ApplyOn: types.SnapStartApplyOnPublishedVersions}
		}), lambda.InvalidParameterValue, "SnapStart is not supported for functions with tenant isolation"},
		"reserved variable": {edit(func(in *sdk.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"AWS_REGION": "x", "OK": "y"}}
		}), lambda.InvalidParameterValue, "Reserved keys used in this request: AWS_REGION"},
		"large environment": {edit(func(in *sdk.CreateFunctionInput) {
			in.Environment = &types.Environment{Variables: map[string]string{"LARGE": strings.Repeat("<", 4096)}}
		}), lambda.InvalidParameterValue, `exceeded the 4KB limit. String measured: {"LARGE":"<<<<`},
		"other region": {func() error {
			_, err := f.client.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: aws.String("arn:aws:lambda:eu-west-1:000000000001:function:f")})
			return err
		}(), lambda.ResourceNotFound, "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"},
		"$LATEST": {func() error {
			_, err := f.client.DeleteFunction(ctx, &sdk.DeleteFunctionInput{FunctionName: aws.String("f"), Qualifier: aws.String("$LATEST")})
			return err
		}(), lambda.InvalidParameterValue, "$LATEST version cannot be deleted without deleting the function."},
		"two qualifiers": {func() error {
			_, err := f.client.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: aws.String("f:1"), Qualifier: aws.String("2")})
			return err
		}(), lambda.InvalidParameterValue, "The derived qualifier from the function name does not match"},
		"revision": {func() error {
			_, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), RevisionId: aws.String("x")})
			return err
		}(), lambda.PreconditionFailed, "does not match the latest Revision Id"},
		"tags of a version": {func() error {
			_, err := f.client.TagResource(ctx, &sdk.TagResourceInput{Resource: aws.String(prefix + "f:$LATEST"), Tags: map[string]string{"a": "b"}})
			return err
		}(), lambda.InvalidParameterValue, "Tags on function aliases and versions are not supported."},
		"reserved tag": {func() error {
			_, err := f.client.TagResource(ctx, &sdk.TagResourceInput{Resource: aws.String(prefix + "f"), Tags: map[string]string{"a": "b", "aws:x": "y"}})
			return err
		}(), lambda.InvalidParameterValue, "aws: prefixed tag key names are not allowed"},
		"created with a reserved tag": {func() error {
			_, err := f.client.CreateFunction(ctx, &sdk.CreateFunctionInput{FunctionName: aws.String("tagged"), Runtime: "python3.11", Handler: aws.String("h.h"), Role: aws.String("arn:aws:iam::000000000001:role/r"),
				Code: &types.FunctionCode{ZipFile: zipOf(t, "x")}, Tags: map[string]string{"aws:cloudformation:stack-name": "y"}})
			return err
		}(), lambda.InvalidParameterValue, "aws: prefixed tag key names are not allowed"},
		"reserved tag of a signing configuration": {func() error {
			_, err := f.client.CreateCodeSigningConfig(ctx, &sdk.CreateCodeSigningConfigInput{Tags: map[string]string{"aws:x": "y"},
				AllowedPublishers: &types.AllowedPublishers{SigningProfileVersionArns: []string{"arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1234567890"}}})
			return err
		}(), lambda.InvalidParameterValue, "aws: prefixed tag key names are not allowed"},
		"reserved tag of an event source mapping": {func() error {
			_, err := f.client.CreateEventSourceMapping(ctx, &sdk.CreateEventSourceMappingInput{FunctionName: aws.String("f"), Tags: map[string]string{"aws:x": "y"},
				EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000001:q")})
			return err
		}(), lambda.InvalidParameterValue, "aws: prefixed tag key names are not allowed"},
		"tag key": {func() error {
			_, err := f.client.TagResource(ctx, &sdk.TagResourceInput{Resource: aws.String(prefix + "f"), Tags: map[string]string{strings.Repeat("k", 129): "y"}})
			return err
		}(), lambda.Validation, "Member must have length less than or equal to 128"},
		"tag value": {func() error {
			_, err := f.client.TagResource(ctx, &sdk.TagResourceInput{Resource: aws.String(prefix + "f"), Tags: map[string]string{"k": strings.Repeat("é", 257)}})
			return err
		}(), lambda.Validation, "Member must have length less than or equal to 256"},
		"too many tags": {func() error {
			tags := map[string]string{}
			for i := range 51 {
				tags[strconv.Itoa(i)] = ""
			}
			_, err := f.client.TagResource(ctx, &sdk.TagResourceInput{Resource: aws.String(prefix + "f"), Tags: tags})
			return err
		}(), lambda.InvalidParameterValue, "Number of tags exceeds resource tag limit."},
		"concurrency of a version": {func() error {
			_, err := f.client.PutFunctionConcurrency(ctx, &sdk.PutFunctionConcurrencyInput{FunctionName: aws.String(prefix + "f:1"), ReservedConcurrentExecutions: aws.Int32(1)})
			return err
		}(), lambda.InvalidParameterValue, "This operation is permitted on Lambda functions only."},
		"principal": {func() error {
			_, err := f.client.AddPermission(ctx, &sdk.AddPermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("s"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("nobody")})
			return err
		}(), lambda.InvalidParameterValue, "The provided principal was invalid."},
		"policy of $LATEST": {func() error {
			_, err := f.client.AddPermission(ctx, &sdk.AddPermissionInput{FunctionName: aws.String("f"), Qualifier: aws.String("$LATEST"), StatementId: aws.String("s"), Action: aws.String("lambda:InvokeFunction"), Principal: aws.String("*")})
			return err
		}(), lambda.InvalidParameterValue, "We currently do not support adding policies for $LATEST."},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, c.err, c.code, c.text) })
	}
}

func TestNeighbours(t *testing.T) {
	f, ctx := start(t), t.Context()
	f.create(t, "f")
	name := aws.String("f")
	if out, err := f.client.GetFunctionCodeSigningConfig(ctx, &sdk.GetFunctionCodeSigningConfigInput{FunctionName: name}); err != nil || out.CodeSigningConfigArn != nil {
		t.Fatal(out, err)
	}
	if out, err := f.client.GetRuntimeManagementConfig(ctx, &sdk.GetRuntimeManagementConfigInput{FunctionName: name}); err != nil || out.UpdateRuntimeOn != types.UpdateRuntimeOnAuto {
		t.Fatal(out, err)
	}
	if out, err := f.client.GetFunctionRecursionConfig(ctx, &sdk.GetFunctionRecursionConfigInput{FunctionName: name}); err != nil || out.RecursiveLoop != types.RecursiveLoopTerminate {
		t.Fatal(out, err)
	}
	if _, err := f.client.PutFunctionConcurrency(ctx, &sdk.PutFunctionConcurrencyInput{FunctionName: name, ReservedConcurrentExecutions: aws.Int32(7)}); err != nil {
		t.Fatal(err)
	}
	settings, err := f.client.GetAccountSettings(ctx, &sdk.GetAccountSettingsInput{})
	if err != nil || settings.AccountLimit.ConcurrentExecutions != 1000 || aws.ToInt32(settings.AccountLimit.UnreservedConcurrentExecutions) != 993 ||
		settings.AccountUsage.FunctionCount != 1 || settings.AccountUsage.TotalCodeSize == 0 {
		t.Fatalf("%+v %v", settings, err)
	}
	if out, err := f.client.GetFunction(ctx, &sdk.GetFunctionInput{FunctionName: name}); err != nil || aws.ToInt32(out.Concurrency.ReservedConcurrentExecutions) != 7 {
		t.Fatal(out, err)
	}
	_, err = f.client.PutFunctionConcurrency(ctx, &sdk.PutFunctionConcurrencyInput{FunctionName: name, ReservedConcurrentExecutions: aws.Int32(901)})
	wantCode(t, err, lambda.InvalidParameterValue, "below its minimum value of [100]")
	if _, err := f.client.DeleteFunctionConcurrency(ctx, &sdk.DeleteFunctionConcurrencyInput{FunctionName: name}); err != nil {
		t.Fatal(err)
	}
	if out, err := f.client.GetFunctionConcurrency(ctx, &sdk.GetFunctionConcurrencyInput{FunctionName: name}); err != nil || out.ReservedConcurrentExecutions != nil {
		t.Fatal(out, err)
	}
	arn := aws.String(prefix + "f")
	longest := map[string]string{strings.Repeat("k", 128): strings.Repeat("é", 256), "a": "b", "c": "d"}
	if _, err := f.client.TagResource(ctx, &sdk.TagResourceInput{Resource: arn, Tags: longest}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.UntagResource(ctx, &sdk.UntagResourceInput{Resource: arn, TagKeys: []string{"a", "none", strings.Repeat("k", 128)}}); err != nil {
		t.Fatal(err)
	}
	if out, err := f.client.ListTags(ctx, &sdk.ListTagsInput{Resource: arn}); err != nil || len(out.Tags) != 1 || out.Tags["c"] != "d" {
		t.Fatal(out, err)
	}
}

func TestPermissions(t *testing.T) {
	f, ctx := start(t), t.Context()
	f.create(t, "f")
	add := func(sid string) (*sdk.AddPermissionOutput, error) {
		return f.client.AddPermission(ctx, &sdk.AddPermissionInput{FunctionName: aws.String("f"), StatementId: &sid, Action: aws.String("lambda:InvokeFunction"),
			Principal: aws.String("s3.amazonaws.com"), SourceArn: aws.String("arn:aws:s3:::b"), SourceAccount: aws.String("000000000001")})
	}
	out, err := add("s3")
	want := `{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction","Resource":"` + prefix + `f",` +
		`"Condition":{"StringEquals":{"AWS:SourceAccount":"000000000001"},"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"}}}`
	if err != nil || aws.ToString(out.Statement) != want {
		t.Fatalf("%v\n%s", err, aws.ToString(out.Statement))
	}
	_, err = add("s3")
	wantCode(t, err, lambda.ResourceConflict, "The statement id (s3) provided already exists.")
	policy, err := f.client.GetPolicy(ctx, &sdk.GetPolicyInput{FunctionName: aws.String("f")})
	if err != nil || aws.ToString(policy.Policy) != `{"Version":"2012-10-17","Id":"default","Statement":[`+want+`]}` || aws.ToString(policy.RevisionId) == "" {
		t.Fatal(aws.ToString(policy.Policy), err)
	}
	if _, err := f.client.RemovePermission(ctx, &sdk.RemovePermissionInput{FunctionName: aws.String("f"), StatementId: aws.String("s3"), RevisionId: policy.RevisionId}); err != nil {
		t.Fatal(err)
	}
	_, err = f.client.GetPolicy(ctx, &sdk.GetPolicyInput{FunctionName: aws.String("f")})
	wantCode(t, err, lambda.ResourceNotFound, "The resource you requested does not exist.")
}

func TestPaginators(t *testing.T) {
	f, ctx := start(t), t.Context()
	for i := range 7 {
		in := input(t, fmt.Sprintf("f%d", i))
		in.Publish = i%2 == 0
		if _, err := f.client.CreateFunction(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	count := func(version types.FunctionVersion, page int32) (names []string) {
		p := sdk.NewListFunctionsPaginator(f.client, &sdk.ListFunctionsInput{FunctionVersion: version, MaxItems: &page})
		for p.HasMorePages() {
			out, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(out.Functions) > int(page) {
				t.Fatalf("a page of %d", len(out.Functions))
			}
			for _, fn := range out.Functions {
				names = append(names, strings.TrimPrefix(aws.ToString(fn.FunctionArn), prefix))
			}
		}
		return names
	}
	if got := strings.Join(count("", 3), " "); got != "f0 f1 f2 f3 f4 f5 f6" {
		t.Fatal(got)
	}
	want := "f0:$LATEST f0:1 f1:$LATEST f2:$LATEST f2:1 f3:$LATEST f4:$LATEST f4:1 f5:$LATEST f6:$LATEST f6:1"
	for page := int32(1); page < 13; page++ {
		if got := strings.Join(count(types.FunctionVersionAll, page), " "); got != want {
			t.Fatalf("pages of %d: %s", page, got)
		}
	}
	_, err := f.client.ListFunctions(ctx, &sdk.ListFunctionsInput{Marker: aws.String("no marker!")})
	wantCode(t, err, lambda.InvalidParameterValue, "marker")
}

func TestConcurrentUpdates(t *testing.T) {
	f, ctx := start(t), t.Context()
	f.create(t, "f")
	release := make(chan struct{})
	f.set(func(s *stub) {
		s.prepare = func(ctx context.Context, _ *lambda.Version) error {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
	})
	results := make(chan error, 8)
	var all sync.WaitGroup
	for i := range cap(results) {
		all.Go(func() {
			_, err := f.client.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(int32(i + 4))})
			results <- err
		})
	}
	all.Wait()
	close(results)
	succeeded := 0
	for err := range results {
		if err == nil {
			succeeded++
			continue
		}
		wantCode(t, err, lambda.ResourceConflict, "An update is in progress for resource: "+prefix+"f")
	}
	if succeeded != 1 {
		t.Fatalf("%d of the updates succeeded", succeeded)
	}
	close(release)
	f.waitUpdated(t, "f")
}

func TestPendingIsResumedAfterARestart(t *testing.T) {
	entries, blobs := memory.NewCatalog(), memory.NewBlobs()
	hang := &stub{prepare: func(ctx context.Context, _ *lambda.Version) error { <-ctx.Done(); return ctx.Err() }}
	before := startOver(t, entries, blobs, hang)
	if _, err := before.client.CreateFunction(t.Context(), input(t, "f")); err != nil {
		t.Fatal(err)
	}
	_, err := before.client.Invoke(t.Context(), &sdk.InvokeInput{FunctionName: aws.String("f")})
	wantCode(t, err, lambda.ResourceConflict, "The function is currently in the following state: Pending")
	before.stop()
	after := startOver(t, entries, blobs, &stub{})
	after.waitActive(t, "f")
}

func TestFailedPreparationShowsItsReason(t *testing.T) {
	f := start(t)
	f.set(func(s *stub) {
		s.prepare = func(_ context.Context, v *lambda.Version) error {
			return lambda.Errorf(lambda.InvalidRuntime, "%s is not installed on this host: install it", v.Runtime)
		}
	})
	if _, err := f.client.CreateFunction(t.Context(), input(t, "f")); err != nil {
		t.Fatal(err)
	}
	w := sdk.NewFunctionActiveV2Waiter(f.client)
	if err := w.Wait(t.Context(), &sdk.GetFunctionInput{FunctionName: aws.String("f")}, 1e10); err == nil || !strings.Contains(err.Error(), "Failure") {
		t.Fatalf("the waiter says %v", err)
	}
	out, err := f.client.GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
	if err != nil || out.State != types.StateFailed || aws.ToString(out.StateReason) != "python3.12 is not installed on this host: install it" || out.StateReasonCode != types.StateReasonCodeInvalidRuntime {
		t.Fatalf("%+v, %v", out, err)
	}
}
