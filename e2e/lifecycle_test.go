package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// contextWithoutCancel returns a context for what must be done after a test has ended, for a minute at most.
func contextWithoutCancel(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestLifecycle is the whole life of a function in each language, as the SDK drives it.
func TestLifecycle(t *testing.T) {
	for _, s := range sources {
		t.Run(s.language, func(t *testing.T) {
			c := sharedClient(t)
			name := "life-" + s.language
			create(t, c, &lambda.CreateFunctionInput{
				FunctionName: &name, Runtime: types.Runtime(s.runtime(t)), Handler: &s.handler,
				Code: &types.FunctionCode{ZipFile: s.zip(t, "one")},
			})
			wantAnswer(t, c, name, "", "one")
			wantAnswer(t, c, name, "$LATEST", "one")
			first := publish(t, c, name)

			_, err := c.Lambda.UpdateFunctionCode(t.Context(), &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: s.zip(t, "two")})
			if err != nil {
				t.Fatal(err)
			}
			waitUpdated(t, c, name)
			wantAnswer(t, c, name, "", "two")
			second := publish(t, c, name)
			wantAnswer(t, c, name, first, "one")
			wantAnswer(t, c, name, second, "two")

			weighted(t, c, name, first, second)
			remove(t, c, name)
		})
	}
}

func wantAnswer(t *testing.T, c *client.Client, name, qualifier, want string) {
	t.Helper()
	got := call(t, c, name, qualifier, `{"key":"value"}`)
	event, _ := got["event"].(map[string]any)
	if got["answer"] != want || event["key"] != "value" {
		t.Errorf("%s:%s answered %v, want %s and the event", name, qualifier, got, want)
	}
}

func publish(t *testing.T, c *client.Client, name string) string {
	t.Helper()
	out, err := c.Lambda.PublishVersion(t.Context(), &lambda.PublishVersionInput{FunctionName: &name})
	if err != nil {
		t.Fatalf("PublishVersion: %v", err)
	}
	waitActive(t, c, name)
	return aws.ToString(out.Version)
}

// weighted puts an alias in front of two versions and expects both to be seen.
func weighted(t *testing.T, c *client.Client, name, first, second string) {
	t.Helper()
	alias := "live"
	_, err := c.Lambda.CreateAlias(t.Context(), &lambda.CreateAliasInput{
		FunctionName: &name, Name: &alias, FunctionVersion: &first,
		RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{second: 0.5}},
	})
	if err != nil {
		t.Fatalf("CreateAlias: %v", err)
	}
	const calls = 60 // one version alone: once in 2^59 runs
	seen := map[string]int{}
	for range calls {
		out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Qualifier: &alias, Payload: []byte(`{}`)})
		version := aws.ToString(out.ExecutedVersion)
		want := map[string]string{first: "one", second: "two"}[version]
		if got := object(t, out.Payload)["answer"]; got != want {
			t.Fatalf("version %s answered %v, want %s", version, got, want)
		}
		seen[version]++
	}
	if seen[first] == 0 || seen[second] == 0 {
		t.Errorf("with weights of one half, %d calls went to versions %v", calls, seen)
	}
	if _, err := c.Lambda.UpdateAlias(t.Context(), &lambda.UpdateAliasInput{FunctionName: &name, Name: &alias, FunctionVersion: &second,
		RoutingConfig: &types.AliasRoutingConfiguration{}}); err != nil {
		t.Fatalf("UpdateAlias: %v", err)
	}
	wantAnswer(t, c, name, alias, "two")
}

func remove(t *testing.T, c *client.Client, name string) {
	t.Helper()
	if _, err := c.Lambda.DeleteFunction(t.Context(), &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
		t.Fatalf("DeleteFunction: %v", err)
	}
	_, err := c.Lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: &name})
	wantCode(t, err, "ResourceNotFoundException")
	_, err = c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name})
	wantCode(t, err, "ResourceNotFoundException")
}

func TestListFunctionsPages(t *testing.T) {
	c := sharedClient(t)
	const count = 7
	for i := range count {
		name := fmt.Sprintf("page-%d", i)
		python(t, c, name, "def handler(event, context):\n    return {}\n")
	}
	seen := map[string]bool{}
	pages := lambda.NewListFunctionsPaginator(c.Lambda, &lambda.ListFunctionsInput{MaxItems: aws.Int32(3)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Functions {
			if seen[*f.FunctionName] {
				t.Errorf("%s is on two pages", *f.FunctionName)
			}
			seen[*f.FunctionName] = true
		}
	}
	for i := range count {
		if name := fmt.Sprintf("page-%d", i); !seen[name] {
			t.Errorf("%s is on no page", name)
		}
	}
}

func TestInvocationTypes(t *testing.T) {
	c := sharedClient(t)
	name := "types"
	python(t, c, name, "import os\ndef handler(event, context):\n    print('ran', event)\n    return {'pid': os.getpid()}\n")

	dry := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, InvocationType: types.InvocationTypeDryRun})
	if dry.StatusCode != 204 || len(dry.Payload) != 0 {
		t.Errorf("DryRun answered %d %q, want 204 and nothing", dry.StatusCode, dry.Payload)
	}
	event := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, InvocationType: types.InvocationTypeEvent, Payload: []byte(`"mark-5512"`)})
	if event.StatusCode != 202 || len(event.Payload) != 0 {
		t.Errorf("Event answered %d %q, want 202 and nothing", event.StatusCode, event.Payload)
	}
	waitForLog(t, c, "/aws/lambda/"+name, "ran mark-5512")
	if out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name}); out.StatusCode != 200 || aws.ToString(out.ExecutedVersion) != "$LATEST" {
		t.Errorf("RequestResponse answered %d by %q, want 200 by $LATEST", out.StatusCode, aws.ToString(out.ExecutedVersion))
	}
}

func TestWarmEnvironmentIsReused(t *testing.T) {
	c := sharedClient(t)
	python(t, c, "warm", "calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return {'calls': calls}\n")
	for want := 1; want <= 5; want++ {
		if got := call(t, c, "warm", "", `{}`)["calls"]; got != float64(want) {
			t.Fatalf("call %d was number %v of its environment, want the same environment for all", want, got)
		}
	}
}
