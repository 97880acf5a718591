package cli

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"path"
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
	runtime         string
	handler         *string
	memory, timeout *int32
	env             *types.Environment
	layers          []string // ARNs
	perTenant       bool     // at creation only
}

// deployment is a function as it is to be.
type deployment struct {
	name  string
	zip   []byte // its code, or
	image string // where that is
	settings
}

func (a *app) deploy(ctx context.Context, c *client.Client, source string, flags deployFlags) error {
	d, err := newDeployment(flags, func() (string, error) { return functionName(source) })
	if err != nil {
		return err
	}
	if d.layers, err = layerARNs(ctx, c, flags.layers); err != nil {
		return err
	}
	started := time.Now()
	a.err.Progress("packing %s …", source)
	b, err := pack(ctx, source, familyOf(flags.runtime), flags.handler)
	if err != nil {
		return err
	}
	if d.zip, d.handler = b.zip, &b.handler; d.runtime == "" {
		d.runtime = newestRuntime(b.family, c.Server().Runtimes)
	}
	return a.put(ctx, c, &d, started)
}

// deployImage makes or changes a function whose code is a container image. The server finds the image, and says where it is not.
func (a *app) deployImage(ctx context.Context, c *client.Client, flags deployFlags) error {
	if flags.runtime != "" || flags.handler != "" || flags.layers != nil {
		return usagef("--runtime, --handler and --layer are of functions made of files; an image brings its own")
	}
	d, err := newDeployment(flags, func() (string, error) { return imageName(flags.image) })
	if err != nil {
		return err
	}
	d.image = flags.image
	return a.put(ctx, c, &d, time.Now())
}

// imageName is a function's name for an image: the last part of the repository, without tag or digest.
func imageName(image string) (string, error) {
	name := path.Base(strings.TrimRight(image, "/"))
	if i := strings.IndexAny(name, "@:"); i > 0 {
		name = name[:i]
	}
	return plainName(strings.TrimSuffix(name, ".tar"))
}

// newDeployment is what the flags say of it; they may leave the name to what is deployed.
func newDeployment(flags deployFlags, usualName func() (string, error)) (d deployment, err error) {
	if d.settings, err = parseSettings(flags); err != nil {
		return d, err
	}
	if d.name = flags.name; d.name == "" {
		d.name, err = usualName()
	}
	return d, err
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

// put makes or changes the function, and says so when it can be called.
func (a *app) put(ctx context.Context, c *client.Client, d *deployment, started time.Time) error {
	before, err := c.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &d.name})
	switch {
	case isNotFound(err):
		err = a.create(ctx, c, d)
	case err == nil:
		err = a.update(ctx, c, configuration(*before), d)
	}
	if err != nil {
		return err
	}
	now, err := a.waitReady(ctx, c, d.name)
	if err != nil {
		return err
	}
	return a.printDeployed(d, now, before == nil, time.Since(started))
}

func (a *app) create(ctx context.Context, c *client.Client, d *deployment) error {
	in := &lambda.CreateFunctionInput{
		FunctionName: &d.name, Runtime: types.Runtime(d.runtime), Handler: d.handler,
		Role: aws.String("arn:aws:iam::" + orElse(string(c.Server().Account), "000000000000") + ":role/berth"),
		Code: &types.FunctionCode{ZipFile: d.zip}, MemorySize: d.memory, Timeout: d.timeout, Environment: d.env,
		Layers: d.layers,
	}
	if d.image == "" {
		a.err.Progress("creating %s (%s, %s) …", d.name, d.runtime, size(int64(len(d.zip))))
	} else {
		a.err.Progress("creating %s (%s) …", d.name, d.image)
		in.PackageType, in.Code = types.PackageTypeImage, &types.FunctionCode{ImageUri: &d.image}
	}
	if d.perTenant {
		in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
	}
	if runtime.GOARCH == "arm64" {
		in.Architectures = []types.Architecture{types.ArchitectureArm64}
	}
	_, err := c.Lambda.CreateFunction(ctx, in)
	return err
}

// update changes what differs, settings first, so that new code never runs with the old handler's name.
func (a *app) update(ctx context.Context, c *client.Client, now configuration, d *deployment) (err error) {
	switch image := now.PackageType == types.PackageTypeImage; {
	case image && d.image == "":
		return usagef("function %s is an image, and stays so: take another --name, or `berth delete %s` first", d.name, d.name)
	case !image && d.image != "":
		return usagef("function %s is made of files, and stays so: take another --name, or `berth delete %s` first", d.name, d.name)
	case d.perTenant && now.TenancyConfig == nil:
		return usagef("function %s was made without tenant isolation, which cannot be added: take another name, or `berth delete %s` first", d.name, d.name)
	}
	if now.LastUpdateStatus == types.LastUpdateStatusInProgress || now.State == types.StatePending {
		// An earlier change: it may have failed, and this one may mend it.
		if now, err = a.waitSettled(ctx, c, d.name); err != nil {
			return err
		}
	}
	if differs(now, d.settings) {
		a.err.Progress("updating the settings of %s …", d.name)
		_, err := c.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &d.name, Runtime: types.Runtime(d.runtime), Handler: d.handler,
			MemorySize: d.memory, Timeout: d.timeout, Environment: d.env, Layers: d.layers,
		})
		if err != nil {
			return err
		}
		if now, err = a.waitSettled(ctx, c, d.name); err != nil {
			return err
		}
	}
	return a.updateCode(ctx, c, now, d)
}

// updateCode uploads other code, or has the server look for the image anew: a tag may have moved.
func (a *app) updateCode(ctx context.Context, c *client.Client, now configuration, d *deployment) error {
	in := &lambda.UpdateFunctionCodeInput{FunctionName: &d.name}
	if d.image != "" {
		a.err.Progress("looking for %s …", d.image)
		in.ImageUri = &d.image
	} else {
		sum := sha256.Sum256(d.zip)
		if aws.ToString(now.CodeSha256) == base64.StdEncoding.EncodeToString(sum[:]) {
			return nil
		}
		a.err.Progress("uploading %s of code for %s …", size(int64(len(d.zip))), d.name)
		in.ZipFile = d.zip
	}
	_, err := c.Lambda.UpdateFunctionCode(ctx, in)
	return err
}

// differs reports whether settings ask for anything else than what a function has.
func differs(now configuration, set settings) bool {
	var env map[string]string
	if now.Environment != nil {
		env = now.Environment.Variables
	}
	return set.runtime != "" && string(now.Runtime) != set.runtime ||
		set.handler != nil && aws.ToString(now.Handler) != *set.handler ||
		set.memory != nil && aws.ToInt32(set.memory) != aws.ToInt32(now.MemorySize) ||
		set.timeout != nil && aws.ToInt32(set.timeout) != aws.ToInt32(now.Timeout) ||
		set.env != nil && !maps.Equal(set.env.Variables, env) ||
		set.layers != nil && !slices.EqualFunc(now.Layers, set.layers, func(l types.Layer, arn string) bool { return aws.ToString(l.Arn) == arn })
}

func (a *app) printDeployed(d *deployment, now configuration, created bool, took time.Duration) error {
	if a.json {
		fields := map[string]any{
			"function": d.name, "arn": aws.ToString(now.FunctionArn), "state": now.State, "codeSha256": aws.ToString(now.CodeSha256), "created": created,
		}
		if d.image != "" {
			fields["image"] = d.image
		} else {
			fields["runtime"], fields["handler"], fields["codeSize"] = now.Runtime, aws.ToString(now.Handler), now.CodeSize
		}
		return a.printJSON(fields)
	}
	done := "updated"
	if created {
		done = "created"
	}
	what, how := d.image, took.Round(time.Millisecond).String()
	if d.image == "" {
		what, how = string(now.Runtime)+"  "+aws.ToString(now.Handler), size(int64(len(d.zip)))+" in "+how
	}
	a.out.Printf("%s %s %s  %s\n", a.out.Paint(ui.Green, done), a.out.Paint(ui.Bold, d.name), what, a.out.Paint(ui.Dim, how))
	if a.out.IsTerminal() && created {
		a.out.Printf("%s\n", a.out.Paint(ui.Dim, "call it with: berth invoke "+d.name))
	}
	return nil
}
