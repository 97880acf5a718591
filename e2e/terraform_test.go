package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// resource is one of Terraform's: apply makes it, or changes it when it is there; read returns what is configured and what the
// state keeps; destroy removes it. The calls are those of Terraform's AWS provider.
type resource struct {
	name    string
	want    map[string]any // the configuration, as read shows it
	apply   func(context.Context) error
	read    func(context.Context) (map[string]any, error)
	destroy func(context.Context) error
}

// stack is the resources around one function, in the order in which they depend on one another.
type stack struct {
	*testing.T
	c     *lambda.Client
	fn    *string
	first bool              // nothing is there yet
	made  map[string]string // what the service made up: ARNs, versions
}

// waits are Terraform's waits for a function, with shorter pauses.
func (s *stack) waits(ctx context.Context) error {
	return lambda.NewFunctionUpdatedV2Waiter(s.c, func(o *lambda.FunctionUpdatedV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	}).Wait(ctx, &lambda.GetFunctionInput{FunctionName: s.fn}, readyWithin)
}

// config is what the two revisions of the configuration differ in.
type config struct {
	memory, reserved, provisioned, retries, batch int32
	answer, description, origin, tag              string
	layers                                        int
}

func (s *stack) resources(c config) []resource {
	return []resource{s.layer(), s.function(c), s.alias(), s.permission(), s.url(c), s.invokeConfig(c), s.provisioned(c), s.mapping(c), s.recursion(), s.management()}
}

func (s *stack) layer() resource {
	name := aws.String("tf-libs")
	return resource{name: "aws_lambda_layer_version", want: map[string]any{"license": "MIT", "runtimes": []any{"nodejs20.x", "python3.12"}, "description": "libraries"},
		apply: func(ctx context.Context) error {
			if !s.first {
				return nil
			}
			out, err := s.c.PublishLayerVersion(ctx, &lambda.PublishLayerVersionInput{LayerName: name, LicenseInfo: aws.String("MIT"), Description: aws.String("libraries"),
				CompatibleRuntimes: []types.Runtime{types.RuntimePython312, types.RuntimeNodejs20x}, Content: &types.LayerVersionContentInput{ZipFile: zipOf(s, "python/lib.py", "x = 1\n")}})
			if err == nil {
				s.made["layer"] = *out.LayerVersionArn
			}
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := s.c.GetLayerVersion(ctx, &lambda.GetLayerVersionInput{LayerName: name, VersionNumber: aws.Int64(1)})
			if err != nil {
				return nil, err
			}
			slices.Sort(out.CompatibleRuntimes) // a set
			return map[string]any{"license": out.LicenseInfo, "runtimes": out.CompatibleRuntimes, "description": out.Description, "sha": out.Content.CodeSha256, "size": out.Content.CodeSize,
				"created": out.CreatedDate, "arn": out.LayerVersionArn}, nil
		},
		destroy: func(ctx context.Context) error {
			_, err := s.c.DeleteLayerVersion(ctx, &lambda.DeleteLayerVersionInput{LayerName: name, VersionNumber: aws.Int64(1)})
			return err
		},
	}
}

func (s *stack) function(c config) resource {
	layers := []string{}
	if c.layers > 0 {
		layers = append(layers, s.made["layer"])
	}
	code := zipOf(s, "app.py", "def handler(event, context):\n    return '"+c.answer+"'\n")
	environment := &types.Environment{Variables: map[string]string{"STAGE": c.tag}}
	return resource{name: "aws_lambda_function",
		want: map[string]any{"memory": c.memory, "description": c.description, "timeout": 20, "handler": "app.handler", "role": role, "tags": map[string]any{"env": c.tag},
			"variables": map[string]any{"STAGE": c.tag}, "layers": len(layers), "reserved": c.reserved, "architectures": []any{"x86_64"}, "package": "Zip", "tracing": "PassThrough", "tmp": 512, "signing": nil},
		apply: func(ctx context.Context) error {
			if s.first {
				if c.layers > 0 {
					layers = []string{s.made["layer"]} // made after this resource was written down
				}
				if err := s.create(ctx, &lambda.CreateFunctionInput{FunctionName: s.fn, Runtime: types.Runtime(pythonRuntime(s)), Handler: aws.String("app.handler"), Role: aws.String(role),
					Description: &c.description, Timeout: aws.Int32(20), MemorySize: &c.memory, Layers: layers, Tags: map[string]string{"env": c.tag}, Environment: environment, Publish: true,
					Code: &types.FunctionCode{ZipFile: code}}, c.reserved); err != nil {
					return err
				}
				return nil
			}
			return s.update(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: s.fn, Description: &c.description, MemorySize: &c.memory, Layers: layers, Environment: environment}, code, c)
		},
		read: s.readFunction,
		destroy: func(ctx context.Context) error {
			_, err := s.c.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: s.fn})
			return err
		},
	}
}

func (s *stack) create(ctx context.Context, in *lambda.CreateFunctionInput, reserved int32) error {
	if _, err := s.c.CreateFunction(ctx, in); err != nil {
		return err
	}
	waiter := lambda.NewFunctionActiveV2Waiter(s.c, func(o *lambda.FunctionActiveV2WaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, 200*time.Millisecond
	})
	if err := waiter.Wait(ctx, &lambda.GetFunctionInput{FunctionName: s.fn}, readyWithin); err != nil {
		return err
	}
	_, err := s.c.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: s.fn, ReservedConcurrentExecutions: &reserved})
	return err
}

// update makes the provider's changes of an existing function, in its order.
func (s *stack) update(ctx context.Context, in *lambda.UpdateFunctionConfigurationInput, code []byte, c config) error {
	arn := s.made["function"]
	_, err := s.c.TagResource(ctx, &lambda.TagResourceInput{Resource: &arn, Tags: map[string]string{"env": c.tag}})
	if err != nil {
		return err
	}
	if _, err := s.c.UpdateFunctionConfiguration(ctx, in); err != nil {
		return err
	}
	if err := s.waits(ctx); err != nil {
		return err
	}
	if _, err := s.c.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: s.fn, ZipFile: code}); err != nil {
		return err
	}
	if err := s.waits(ctx); err != nil {
		return err
	}
	if _, err := s.c.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: s.fn, ReservedConcurrentExecutions: &c.reserved}); err != nil {
		return err
	}
	_, err = s.c.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: s.fn})
	return err
}

// readFunction makes all calls of a function's refresh. An unexpected error in any of them would fail a whole plan.
func (s *stack) readFunction(ctx context.Context) (map[string]any, error) {
	out, err := s.c.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: s.fn})
	if err != nil {
		return nil, err
	}
	latest := "0"
	for pages := lambda.NewListVersionsByFunctionPaginator(s.c, &lambda.ListVersionsByFunctionInput{FunctionName: s.fn, MaxItems: aws.Int32(10000)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		latest = *page.Versions[len(page.Versions)-1].Version
	}
	signing, err := s.c.GetFunctionCodeSigningConfig(ctx, &lambda.GetFunctionCodeSigningConfigInput{FunctionName: s.fn})
	if err != nil {
		return nil, err
	}
	tags, err := s.c.ListTags(ctx, &lambda.ListTagsInput{Resource: out.Configuration.FunctionArn})
	if err != nil {
		return nil, err
	}
	concurrency, err := s.c.GetFunctionConcurrency(ctx, &lambda.GetFunctionConcurrencyInput{FunctionName: s.fn})
	if err != nil {
		return nil, err
	}
	if *concurrency.ReservedConcurrentExecutions != *out.Concurrency.ReservedConcurrentExecutions || !maps.Equal(tags.Tags, out.Tags) {
		s.Errorf("GetFunction shows %d and %v, GetFunctionConcurrency and ListTags %d and %v", *out.Concurrency.ReservedConcurrentExecutions, out.Tags, *concurrency.ReservedConcurrentExecutions, tags.Tags)
	}
	f := out.Configuration
	s.made["function"], s.made["version"] = *f.FunctionArn, latest
	return map[string]any{"memory": f.MemorySize, "description": f.Description, "timeout": f.Timeout, "handler": f.Handler, "role": f.Role, "tags": tags.Tags, "variables": f.Environment.Variables,
		"layers": len(f.Layers), "reserved": concurrency.ReservedConcurrentExecutions, "architectures": f.Architectures, "package": f.PackageType, "tracing": f.TracingConfig.Mode,
		"tmp": f.EphemeralStorage.Size, "signing": signing.CodeSigningConfigArn,
		"arn": f.FunctionArn, "sha": f.CodeSha256, "size": f.CodeSize, "modified": f.LastModified, "version": latest, "logs": f.LoggingConfig, "snap": f.SnapStart, "vpc": f.VpcConfig,
		"revision": f.RevisionId, "state": f.State, "update": f.LastUpdateStatus, "repository": out.Code.RepositoryType}, nil
}

// TestTerraform applies a configuration, plans twice without a difference, applies a changed one, plans again, and destroys.
func TestTerraform(t *testing.T) {
	c := sharedClient(t)
	first := config{memory: 128, reserved: 10, provisioned: 1, retries: 0, batch: 5, answer: "one", description: "first", origin: "https://a.example", tag: "test", layers: 1}
	second := config{memory: 256, reserved: 12, provisioned: 2, retries: 2, batch: 7, answer: "two", description: "second", origin: "https://b.example", tag: "prod"}
	s := &stack{T: t, c: c.Lambda, fn: aws.String("tf-app"), first: true, made: map[string]string{}}
	s.apply(s.resources(first))
	answers(t, c, "tf-app", `"one"`)
	s.plan(s.resources(first))
	s.first = false
	s.apply(s.resources(second))
	answers(t, c, "tf-app", `"two"`)
	s.plan(s.resources(second))

	all := s.resources(second)
	slices.Reverse(all)
	for _, r := range all {
		if r.destroy == nil {
			continue
		}
		if err := r.destroy(t.Context()); err != nil {
			t.Errorf("destroying %s: %v", r.name, err)
		}
		var gone *types.ResourceNotFoundException
		var noConfig *types.ProvisionedConcurrencyConfigNotFoundException
		if got, err := r.read(t.Context()); !errors.As(err, &gone) && !errors.As(err, &noConfig) {
			t.Errorf("%s after its destruction: %v, %v", r.name, got, err)
		}
	}
}

func answers(t *testing.T, c *client.Client, name, want string) {
	t.Helper()
	if out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Qualifier: aws.String("live")}); string(out.Payload) != want {
		t.Errorf("%s:live answers %s, want %s", name, out.Payload, want)
	}
}

// apply makes or changes all resources in order; each must then be as configured.
func (s *stack) apply(all []resource) {
	s.Helper()
	for _, r := range all {
		if err := r.apply(s.Context()); err != nil {
			s.Fatalf("applying %s: %v", r.name, err)
		}
		s.compare(r)
	}
}

// compare reads a resource and returns its state; what is configured must be in it.
func (s *stack) compare(r resource) string {
	s.Helper()
	got, err := r.read(s.Context())
	if err != nil {
		s.Fatalf("reading %s: %v", r.name, err)
	}
	for key, want := range r.want {
		if !same(got[key], want) {
			s.Errorf("a plan would change %s: %s is %s, want %v", r.name, key, text(got[key]), want)
		}
	}
	return text(got)
}

// plan refreshes everything twice: nothing may differ from the configuration, nor from one time to the next.
func (s *stack) plan(all []resource) {
	s.Helper()
	before := map[string]string{}
	for round := range 2 {
		for _, r := range all {
			state := s.compare(r)
			if round > 0 && state != before[r.name] {
				s.Errorf("%s reads differently the second time:\n%s\n%s", r.name, before[r.name], state)
			}
			before[r.name] = state
		}
	}
}

func text(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(out)
}
