package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"berth/lambda"
)

// pager is what all paginators of the SDK have in common.
type pager[Out any] interface {
	HasMorePages() bool
	NextPage(context.Context, ...func(*sdk.Options)) (Out, error)
}

// collect reads all pages and checks that none is longer than size.
func collect[Out any](t *testing.T, p pager[Out], size int, items func(Out) []string) []string {
	t.Helper()
	var all []string
	for p.HasMorePages() {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list := items(page)
		if len(list) > size {
			t.Errorf("a page of %d, at most %d asked for", len(list), size)
		}
		if all = append(all, list...); len(all) > 1000 {
			t.Fatal("the pages do not end")
		}
	}
	return all
}

// each returns what f makes of every element.
func each[T any](list []T, f func(T) *string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = *f(v)
	}
	return out
}

// TestAllPaginators reads every list in pages of every size.
func TestAllPaginators(t *testing.T) {
	f := listed(t)
	c, fn, layer := f.client, aws.String("f0"), aws.String("layer0")
	signing, err := c.GetFunctionCodeSigningConfig(t.Context(), &sdk.GetFunctionCodeSigningConfigInput{FunctionName: fn})
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string]func(size *int32, max int) []string{
		"ListFunctionEventInvokeConfigs": func(size *int32, max int) []string {
			return collect(t, sdk.NewListFunctionEventInvokeConfigsPaginator(c, &sdk.ListFunctionEventInvokeConfigsInput{FunctionName: fn, MaxItems: size}), max, func(o *sdk.ListFunctionEventInvokeConfigsOutput) []string {
				return each(o.FunctionEventInvokeConfigs, func(v types.FunctionEventInvokeConfig) *string { return v.FunctionArn })
			})
		},
		"ListFunctionUrlConfigs": func(size *int32, max int) []string {
			return collect(t, sdk.NewListFunctionUrlConfigsPaginator(c, &sdk.ListFunctionUrlConfigsInput{FunctionName: fn, MaxItems: size}), max, func(o *sdk.ListFunctionUrlConfigsOutput) []string {
				return each(o.FunctionUrlConfigs, func(v types.FunctionUrlConfig) *string { return v.FunctionUrl })
			})
		},
		"ListFunctions": func(size *int32, max int) []string {
			return collect(t, sdk.NewListFunctionsPaginator(c, &sdk.ListFunctionsInput{MaxItems: size}), max, func(o *sdk.ListFunctionsOutput) []string {
				return each(o.Functions, func(v types.FunctionConfiguration) *string { return v.FunctionName })
			})
		},
		"ListVersionsByFunction": func(size *int32, max int) []string {
			return collect(t, sdk.NewListVersionsByFunctionPaginator(c, &sdk.ListVersionsByFunctionInput{FunctionName: fn, MaxItems: size}), max, func(o *sdk.ListVersionsByFunctionOutput) []string {
				return each(o.Versions, func(v types.FunctionConfiguration) *string { return v.Version })
			})
		},
		"ListAliases": func(size *int32, max int) []string {
			return collect(t, sdk.NewListAliasesPaginator(c, &sdk.ListAliasesInput{FunctionName: fn, MaxItems: size}), max, func(o *sdk.ListAliasesOutput) []string {
				return each(o.Aliases, func(v types.AliasConfiguration) *string { return v.Name })
			})
		},
		"ListProvisionedConcurrencyConfigs": func(size *int32, max int) []string {
			return collect(t, sdk.NewListProvisionedConcurrencyConfigsPaginator(c, &sdk.ListProvisionedConcurrencyConfigsInput{FunctionName: fn, MaxItems: size}), max, func(o *sdk.ListProvisionedConcurrencyConfigsOutput) []string {
				return each(o.ProvisionedConcurrencyConfigs, func(v types.ProvisionedConcurrencyConfigListItem) *string { return v.FunctionArn })
			})
		},
		"ListLayers": func(size *int32, max int) []string {
			return collect(t, sdk.NewListLayersPaginator(c, &sdk.ListLayersInput{MaxItems: size}), max, func(o *sdk.ListLayersOutput) []string {
				return each(o.Layers, func(v types.LayersListItem) *string { return v.LayerName })
			})
		},
		"ListLayerVersions": func(size *int32, max int) []string {
			return collect(t, sdk.NewListLayerVersionsPaginator(c, &sdk.ListLayerVersionsInput{LayerName: layer, MaxItems: size}), max, func(o *sdk.ListLayerVersionsOutput) []string {
				return each(o.LayerVersions, func(v types.LayerVersionsListItem) *string { return v.LayerVersionArn })
			})
		},
		"ListEventSourceMappings": func(size *int32, max int) []string {
			return collect(t, sdk.NewListEventSourceMappingsPaginator(c, &sdk.ListEventSourceMappingsInput{FunctionName: fn, MaxItems: size}), max*2, func(o *sdk.ListEventSourceMappingsOutput) []string {
				return each(o.EventSourceMappings, func(v types.EventSourceMappingConfiguration) *string { return v.UUID })
			})
		},
		"ListCodeSigningConfigs": func(size *int32, max int) []string {
			return collect(t, sdk.NewListCodeSigningConfigsPaginator(c, &sdk.ListCodeSigningConfigsInput{MaxItems: size}), max, func(o *sdk.ListCodeSigningConfigsOutput) []string {
				return each(o.CodeSigningConfigs, func(v types.CodeSigningConfig) *string { return v.CodeSigningConfigId })
			})
		},
		"ListFunctionsByCodeSigningConfig": func(size *int32, max int) []string {
			return collect(t, sdk.NewListFunctionsByCodeSigningConfigPaginator(c, &sdk.ListFunctionsByCodeSigningConfigInput{CodeSigningConfigArn: signing.CodeSigningConfigArn, MaxItems: size}), max, func(o *sdk.ListFunctionsByCodeSigningConfigOutput) []string {
				return each(o.FunctionArns, func(v string) *string { return &v })
			})
		},
	}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			n, all := 7, list(nil, 50)
			if name == "ListVersionsByFunction" {
				n++ // $LATEST
			}
			if len(all) != n {
				t.Fatalf("%d without a page size, want %d: %v", len(all), n, all)
			}
			for _, size := range []int32{1, 3, int32(n), int32(n) + 1, 50} {
				if got := list(&size, int(size)); !slices.Equal(got, all) {
					t.Errorf("in pages of %d: %v, want %v", size, got, all)
				}
			}
		})
	}
	others := otherPaginators(t, c)
	for name := range sdkConstructors(t, "Paginator") {
		if lists[name] == nil && !others[name] {
			t.Errorf("the SDK's paginator of %s is not tried", name)
		}
	}
}

// otherPaginators tries the paginators of what there is nothing of, and returns which.
func otherPaginators(t *testing.T, c *sdk.Client) map[string]bool {
	pages := collect(t, sdk.NewListCapacityProvidersPaginator(c, &sdk.ListCapacityProvidersInput{}), 50, func(o *sdk.ListCapacityProvidersOutput) []string {
		return each(o.CapacityProviders, func(v types.CapacityProvider) *string { return v.CapacityProviderArn })
	})
	if len(pages) != 0 {
		t.Errorf("capacity providers: %v", pages)
	}
	refused := func(name string, code lambda.Code, next func(context.Context) error) {
		t.Helper()
		var e smithy.APIError
		if err := next(t.Context()); !errors.As(err, &e) || e.ErrorCode() != string(code) {
			t.Errorf("%s: %v, want %s", name, err, code)
		}
	}
	execution := aws.String("arn:aws:lambda:us-east-1:000000000001:function:f0:$LATEST/durable-execution/a/b")
	refused("ListFunctionVersionsByCapacityProvider", lambda.ResourceNotFound, func(ctx context.Context) error {
		_, err := sdk.NewListFunctionVersionsByCapacityProviderPaginator(c, &sdk.ListFunctionVersionsByCapacityProviderInput{CapacityProviderName: aws.String("none")}).NextPage(ctx)
		return err
	})
	refused("ListDurableExecutionsByFunction", lambda.NotImplemented, func(ctx context.Context) error {
		_, err := sdk.NewListDurableExecutionsByFunctionPaginator(c, &sdk.ListDurableExecutionsByFunctionInput{FunctionName: aws.String("f0")}).NextPage(ctx)
		return err
	})
	refused("GetDurableExecutionHistory", lambda.NotImplemented, func(ctx context.Context) error {
		_, err := sdk.NewGetDurableExecutionHistoryPaginator(c, &sdk.GetDurableExecutionHistoryInput{DurableExecutionArn: execution}).NextPage(ctx)
		return err
	})
	refused("GetDurableExecutionState", lambda.NotImplemented, func(ctx context.Context) error {
		_, err := sdk.NewGetDurableExecutionStatePaginator(c, &sdk.GetDurableExecutionStateInput{DurableExecutionArn: execution, CheckpointToken: aws.String("YQ==")}).NextPage(ctx)
		return err
	})
	return map[string]bool{"ListCapacityProviders": true, "ListFunctionVersionsByCapacityProvider": true, "ListDurableExecutionsByFunction": true,
		"GetDurableExecutionHistory": true, "GetDurableExecutionState": true}
}

// sdkConstructors reads from the SDK's own source which paginators or waiters it has.
func sdkConstructors(t *testing.T, of string) map[string]bool {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/lambda").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "api_op_*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no source of the SDK in %s: %v", dir, err)
	}
	found, constructor := map[string]bool{}, regexp.MustCompile(`(?m)^func New(\w+)`+of+`\(`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range constructor.FindAllSubmatch(text, -1) {
			found[string(match[1])] = true
		}
	}
	if len(found) == 0 {
		t.Fatalf("the SDK's source has no %ss", of)
	}
	return found
}

// listed is a server with seven of everything that is listed.
func listed(t *testing.T) *fixture {
	f, ctx := start(t), t.Context()
	c := f.client
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var signing *string
	for i := range 7 {
		made, err := c.CreateCodeSigningConfig(ctx, &sdk.CreateCodeSigningConfigInput{AllowedPublishers: &types.AllowedPublishers{
			SigningProfileVersionArns: []string{"arn:aws:signer:us-east-1:000000000001:/signing-profiles/p/1"}}})
		must(err)
		signing = made.CodeSigningConfig.CodeSigningConfigArn
		layer := aws.String(fmt.Sprintf("layer%d", i))
		_, err = c.PublishLayerVersion(ctx, &sdk.PublishLayerVersionInput{LayerName: layer, Content: &types.LayerVersionContentInput{ZipFile: zipOf(t, "x")}})
		must(err)
		if i > 0 {
			_, err = c.PublishLayerVersion(ctx, &sdk.PublishLayerVersionInput{LayerName: aws.String("layer0"), Content: &types.LayerVersionContentInput{ZipFile: zipOf(t, "y")}})
			must(err)
		}
	}
	for i := range 7 {
		in := input(t, fmt.Sprintf("f%d", i))
		in.CodeSigningConfigArn = signing
		_, err := c.CreateFunction(ctx, in)
		must(err)
	}
	f.waitActive(t, "f0")
	for i := range 7 {
		_, err := c.CreateEventSourceMapping(ctx, &sdk.CreateEventSourceMappingInput{FunctionName: aws.String("f0"), EventSourceArn: aws.String(fmt.Sprintf("arn:aws:sqs:us-east-1:000000000001:q%d", i))})
		must(err)
		_, err = c.UpdateFunctionConfiguration(ctx, &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f0"), Description: aws.String(fmt.Sprint(i))})
		must(err)
		f.waitUpdated(t, "f0")
		_, err = c.PublishVersion(ctx, &sdk.PublishVersionInput{FunctionName: aws.String("f0")})
		must(err)
		_, err = c.PutProvisionedConcurrencyConfig(ctx, &sdk.PutProvisionedConcurrencyConfigInput{FunctionName: aws.String("f0"), Qualifier: aws.String(fmt.Sprint(i + 1)), ProvisionedConcurrentExecutions: aws.Int32(1)})
		must(err)
		alias := aws.String(fmt.Sprintf("a%d", i))
		_, err = c.CreateAlias(ctx, &sdk.CreateAliasInput{FunctionName: aws.String("f0"), Name: alias, FunctionVersion: aws.String("$LATEST")})
		must(err)
		_, err = c.CreateFunctionUrlConfig(ctx, &sdk.CreateFunctionUrlConfigInput{FunctionName: aws.String("f0"), Qualifier: alias, AuthType: types.FunctionUrlAuthTypeNone})
		must(err)
		_, err = c.PutFunctionEventInvokeConfig(ctx, &sdk.PutFunctionEventInvokeConfigInput{FunctionName: aws.String("f0"), Qualifier: alias, MaximumRetryAttempts: aws.Int32(1)})
		must(err)
	}
	return f
}

// TestMarkers: what no page gave out is refused, and never breaks anything.
func TestMarkers(t *testing.T) {
	p := newProber(t)
	p.ensure()
	tested := 0
	for name, op := range p.model.Operations {
		if op.Input == nil || slices.Contains(unbuilt, name) || slices.Contains(refusing, name) {
			continue
		}
		input := p.model.Shapes[op.Input.Shape]
		if _, paged := input.Members["Marker"]; !paged {
			continue
		}
		tested++
		for _, marker := range []string{"not base64!", "%%%", "====", strings.Repeat("A", 5000), "AAAA", "Li4vLi4v", "LTE", "L3gv"} {
			in := p.valid(name, input)
			in["Marker"] = marker
			answer := p.send(name, in)
			code := answer.Header().Get("X-Amzn-Errortype")
			if answer.Code != 200 && (answer.Code != 400 || code != string(lambda.InvalidParameterValue)) {
				t.Errorf("%s with the marker %.20q: %d %s", name, marker, answer.Code, answer.Body)
			}
			if strings.ContainsAny(marker, "!%=") && answer.Code != 400 {
				t.Errorf("%s accepts the marker %.20q", name, marker)
			}
		}
	}
	if tested == 0 {
		t.Error("no operation has pages")
	}
}

// TestWaiters waits for what each waiter of the SDK waits for.
func TestWaiters(t *testing.T) {
	f := start(t)
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
	if _, err := f.client.CreateFunction(t.Context(), input(t, "f")); err != nil {
		t.Fatal(err)
	}
	const short, long = 30 * time.Millisecond, 20 * time.Second
	get, config := &sdk.GetFunctionInput{FunctionName: aws.String("f")}, &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("f")}
	waiters := map[string]func(time.Duration) error{
		"FunctionActive": func(d time.Duration) error {
			return sdk.NewFunctionActiveWaiter(f.client, func(o *sdk.FunctionActiveWaiterOptions) {
				o.MinDelay, o.MaxDelay = time.Millisecond, 5*time.Millisecond
			}).Wait(t.Context(), config, d)
		},
		"FunctionActiveV2": func(d time.Duration) error {
			return sdk.NewFunctionActiveV2Waiter(f.client, func(o *sdk.FunctionActiveV2WaiterOptions) {
				o.MinDelay, o.MaxDelay = time.Millisecond, 5*time.Millisecond
			}).Wait(t.Context(), get, d)
		},
		"PublishedVersionActive": func(d time.Duration) error {
			return sdk.NewPublishedVersionActiveWaiter(f.client, func(o *sdk.PublishedVersionActiveWaiterOptions) {
				o.MinDelay, o.MaxDelay = time.Millisecond, 5*time.Millisecond
			}).Wait(t.Context(), config, d)
		},
	}
	updated := map[string]func(time.Duration) error{
		"FunctionUpdated": func(d time.Duration) error {
			return sdk.NewFunctionUpdatedWaiter(f.client, func(o *sdk.FunctionUpdatedWaiterOptions) {
				o.MinDelay, o.MaxDelay = time.Millisecond, 5*time.Millisecond
			}).Wait(t.Context(), config, d)
		},
		"FunctionUpdatedV2": func(d time.Duration) error {
			return sdk.NewFunctionUpdatedV2Waiter(f.client, func(o *sdk.FunctionUpdatedV2WaiterOptions) {
				o.MinDelay, o.MaxDelay = time.Millisecond, 5*time.Millisecond
			}).Wait(t.Context(), get, d)
		},
	}
	for name := range sdkConstructors(t, "Waiter") {
		if waiters[name] == nil && updated[name] == nil && name != "FunctionExists" {
			t.Errorf("the SDK's waiter %s is not tried", name)
		}
	}
	if err := sdk.NewFunctionExistsWaiter(f.client).Wait(t.Context(), get, long); err != nil {
		t.Errorf("FunctionExists: %v", err)
	}
	run := func(set map[string]func(time.Duration) error) {
		t.Helper()
		for name, wait := range set {
			if err := wait(short); err == nil {
				t.Errorf("%s does not wait", name)
			}
		}
		close(release)
		for name, wait := range set {
			if err := wait(long); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	run(waiters)
	release = make(chan struct{})
	if _, err := f.client.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), MemorySize: aws.Int32(256)}); err != nil {
		t.Fatal(err)
	}
	run(updated)
}
