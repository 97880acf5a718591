package cli

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

type deployFlags struct {
	name, runtime, handler string
	image                  string // instead of files
	memory                 int32  // MB; 0 leaves it to the server
	timeout                string
	env, layers            []string
	perTenant              bool
}

func (a *app) deployCommand() *cobra.Command {
	var flags deployFlags
	cmd := &cobra.Command{
		Use:   "deploy (DIR|FILE | --image IMAGE)",
		Short: "Upload a function: create it, or replace its code",
		Long: `Upload a directory, a file or a zip as a function, and wait until it can be called.

The runtime and the handler are found by a look into the code: a .py file with lambda_handler or handler, a .js or .mjs
file that exports handler, Go source (built here, for Linux), or an executable called bootstrap. Deploying again replaces
the code and the settings that are named; --env replaces all of the function's variables.

With --image the function is a container image, which the server fetches: HOST/REPOSITORY:TAG of a registry, or a file or
directory below its --image-dir (oci-layout:DIR, archive:FILE). Deploying again looks for the tag anew.`,
		Example: `  berth deploy .                                     # named after the directory
  berth deploy handler.py --name hello --memory 256 --timeout 30s
  berth deploy ./cmd/worker --env QUEUE=jobs --env LEVEL=debug
  berth deploy build.zip --name api --runtime nodejs20.x --handler index.handler
  berth deploy --image registry.example/team/app:1 --memory 512`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case flags.image != "" && len(args) > 0:
				return usagef("give files or --image, not both")
			case flags.image != "":
				return nil
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		if flags.image != "" {
			return a.deployImage(ctx, c, flags)
		}
		return a.deploy(ctx, c, args[0], flags)
	})
	f := cmd.Flags()
	f.StringVarP(&flags.name, "name", "n", "", "function name (default: the name of the directory or file)")
	f.StringVar(&flags.runtime, "runtime", "", "runtime, like python3.11, nodejs20.x, provided.al2023 (default: found in the code)")
	f.StringVar(&flags.image, "image", "", "container image to deploy instead of files")
	f.StringVar(&flags.handler, "handler", "", "handler, like FILE.FUNCTION (default: found in the code)")
	f.Int32Var(&flags.memory, "memory", 0, "memory in MB, 128–10240 (default: as it is, 128 when new)")
	f.StringVar(&flags.timeout, "timeout", "", "time limit of a call, 1s–15m (default: as it is, 3s when new)")
	f.StringArrayVarP(&flags.env, "env", "e", nil, "environment variable KEY=VALUE; may be given many times")
	f.StringArrayVar(&flags.layers, "layer", nil, "layer NAME, NAME:VERSION or ARN; may be given many times, replaces all")
	f.BoolVar(&flags.perTenant, "per-tenant", false, "give each tenant environments of its own; calls name theirs from then on (set when the function is made, for ever)")
	return cmd
}

// settings are the parts of a function's configuration that flags and code decide; nil and "" leave them as they are.
type settings struct {
	runtime, handler string
	memory, timeout  *int32
	env              *types.Environment
	layers           []string // ARNs; nil leaves them
	perTenant        bool     // at creation only
}

func (a *app) deploy(ctx context.Context, c *client.Client, source string, flags deployFlags) error {
	set, err := parseSettings(flags)
	if err != nil {
		return err
	}
	name := flags.name
	if name == "" {
		if name, err = functionName(source); err != nil {
			return err
		}
	}
	if set.layers, err = layerARNs(ctx, c, flags.layers); err != nil {
		return err
	}
	started := time.Now()
	a.err.Progress("packing %s …", source)
	b, err := pack(ctx, source, familyOf(flags.runtime), flags.handler)
	if err != nil {
		return err
	}
	if set.handler = b.handler; set.runtime == "" {
		set.runtime = newestRuntime(b.family, c.Server().Runtimes)
	}
	before, err := c.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	var state configuration
	switch {
	case isNotFound(err):
		state, err = a.create(ctx, c, name, b.zip, set)
	case err == nil:
		state, err = a.update(ctx, c, configuration(*before), b.zip, set)
	}
	if err != nil {
		return err
	}
	return a.printDeployed(state, before == nil, len(b.zip), time.Since(started))
}

func parseSettings(flags deployFlags) (settings, error) {
	set := settings{runtime: flags.runtime, perTenant: flags.perTenant}
	if flags.memory != 0 {
		set.memory = &flags.memory
	}
	if flags.timeout != "" {
		seconds, err := parseSeconds(flags.timeout)
		if err != nil {
			return set, err
		}
		set.timeout = &seconds
	}
	if flags.env != nil {
		set.env = &types.Environment{Variables: map[string]string{}}
	}
	for _, pair := range flags.env {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return set, usagef("--env %q is not KEY=VALUE", pair)
		}
		set.env.Variables[key] = value
	}
	return set, nil
}

// parseSeconds takes whole seconds as a number ("30") or as a duration ("30s", "2m").
func parseSeconds(text string) (int32, error) {
	d, err := time.ParseDuration(text)
	if n, numberErr := strconv.ParseInt(text, 10, 32); numberErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < time.Second || d%time.Second != 0 || d > 15*time.Minute {
		return 0, usagef("--timeout %q is not whole seconds from 1s to 15m", text)
	}
	return int32(d / time.Second), nil
}

func (a *app) create(ctx context.Context, c *client.Client, name string, zipped []byte, set settings) (configuration, error) {
	a.err.Progress("creating %s (%s, %s) …", name, set.runtime, size(int64(len(zipped))))
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, Runtime: types.Runtime(set.runtime), Handler: &set.handler,
		Role: aws.String("arn:aws:iam::" + orElse(string(c.Server().Account), "000000000000") + ":role/berth"),
		Code: &types.FunctionCode{ZipFile: zipped}, MemorySize: set.memory, Timeout: set.timeout, Environment: set.env,
		Layers: set.layers,
	}
	if set.perTenant {
		in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
	}
	if runtime.GOARCH == "arm64" {
		in.Architectures = []types.Architecture{types.ArchitectureArm64}
	}
	if _, err := c.Lambda.CreateFunction(ctx, in); err != nil {
		return configuration{}, err
	}
	return a.waitReady(ctx, c, name)
}

// update changes what differs, settings first, so that new code never runs with the old handler's name.
func (a *app) update(ctx context.Context, c *client.Client, now configuration, zipped []byte, set settings) (configuration, error) {
	name := aws.ToString(now.FunctionName)
	if set.perTenant && now.TenancyConfig == nil {
		return now, usagef("function %s was made without tenant isolation, which cannot be added: take another name, or `berth delete %s` first", name, name)
	}
	if now.LastUpdateStatus == types.LastUpdateStatusInProgress || now.State == types.StatePending {
		var err error // of an earlier change: it may have failed, and this one may mend it
		if now, err = a.waitSettled(ctx, c, name); err != nil {
			return now, err
		}
	}
	if differs(now, set) {
		a.err.Progress("updating the settings of %s …", name)
		_, err := c.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &name, Runtime: types.Runtime(set.runtime), Handler: &set.handler,
			MemorySize: set.memory, Timeout: set.timeout, Environment: set.env, Layers: set.layers,
		})
		if err != nil {
			return now, err
		}
		if now, err = a.waitSettled(ctx, c, name); err != nil {
			return now, err
		}
	}
	sum := sha256.Sum256(zipped)
	if aws.ToString(now.CodeSha256) != base64.StdEncoding.EncodeToString(sum[:]) {
		a.err.Progress("uploading %s of code for %s …", size(int64(len(zipped))), name)
		_, err := c.Lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: zipped})
		if err != nil {
			return now, err
		}
	}
	return a.waitReady(ctx, c, name)
}

// differs reports whether settings ask for anything else than what a function has.
func differs(now configuration, set settings) bool {
	var env map[string]string
	if now.Environment != nil {
		env = now.Environment.Variables
	}
	return string(now.Runtime) != set.runtime || aws.ToString(now.Handler) != set.handler ||
		set.memory != nil && aws.ToInt32(set.memory) != aws.ToInt32(now.MemorySize) ||
		set.timeout != nil && aws.ToInt32(set.timeout) != aws.ToInt32(now.Timeout) ||
		set.env != nil && !maps.Equal(set.env.Variables, env) ||
		set.layers != nil && !slices.EqualFunc(now.Layers, set.layers, func(l types.Layer, arn string) bool { return aws.ToString(l.Arn) == arn })
}

func (a *app) printDeployed(now configuration, created bool, bytes int, took time.Duration) error {
	name := aws.ToString(now.FunctionName)
	if a.json {
		return a.printJSON(map[string]any{
			"function": name, "arn": aws.ToString(now.FunctionArn), "runtime": now.Runtime, "handler": aws.ToString(now.Handler),
			"state": now.State, "codeSha256": aws.ToString(now.CodeSha256), "codeSize": now.CodeSize, "created": created,
		})
	}
	done := "updated"
	if created {
		done = "created"
	}
	a.out.Printf("%s %s %s  %s  %s\n", a.out.Paint(ui.Green, done), a.out.Paint(ui.Bold, name), now.Runtime, aws.ToString(now.Handler),
		a.out.Paint(ui.Dim, fmt.Sprintf("%s in %s", size(int64(bytes)), took.Round(time.Millisecond))))
	if a.out.IsTerminal() && created {
		a.out.Printf("%s\n", a.out.Paint(ui.Dim, "call it with: berth invoke "+name))
	}
	return nil
}
