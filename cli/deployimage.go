package cli

import (
	"context"
	"path"
	"runtime"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
	"berth/ui"
)

// deployImage makes or changes a function whose code is a container image. The server finds the image, and says where it is not.
func (a *app) deployImage(ctx context.Context, c *client.Client, flags deployFlags) error {
	if flags.runtime != "" || flags.handler != "" || flags.layers != nil {
		return usagef("--runtime, --handler and --layer are of functions made of files; an image brings its own")
	}
	set, err := parseSettings(flags)
	if err != nil {
		return err
	}
	name := flags.name
	if name == "" {
		if name, err = imageName(flags.image); err != nil {
			return err
		}
	}
	started := time.Now()
	before, err := c.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
	var state configuration
	switch {
	case isNotFound(err):
		state, err = a.createImage(ctx, c, name, flags.image, set)
	case err == nil:
		state, err = a.updateImage(ctx, c, configuration(*before), flags.image, set)
	}
	if err != nil {
		return err
	}
	return a.printImage(state, flags.image, before == nil, time.Since(started))
}

// imageName is a function's name for an image: the last part of the repository, without tag or digest.
func imageName(image string) (string, error) {
	name := path.Base(strings.TrimRight(image, "/"))
	if i := strings.IndexAny(name, "@:"); i > 0 {
		name = name[:i]
	}
	return plainName(strings.TrimSuffix(name, ".tar"))
}

func (a *app) createImage(ctx context.Context, c *client.Client, name, image string, set settings) (configuration, error) {
	a.err.Progress("creating %s (%s) …", name, image)
	in := &lambda.CreateFunctionInput{
		FunctionName: &name, PackageType: types.PackageTypeImage, Code: &types.FunctionCode{ImageUri: &image},
		Role:       aws.String("arn:aws:iam::" + orElse(string(c.Server().Account), "000000000000") + ":role/berth"),
		MemorySize: set.memory, Timeout: set.timeout, Environment: set.env,
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

// updateImage changes the settings that differ, and has the server look for the image anew: a tag may have moved.
func (a *app) updateImage(ctx context.Context, c *client.Client, now configuration, image string, set settings) (configuration, error) {
	name := aws.ToString(now.FunctionName)
	if now.PackageType != types.PackageTypeImage {
		return now, usagef("function %s is made of files, and stays so: take another --name, or `berth delete %s` first", name, name)
	}
	if set.perTenant && now.TenancyConfig == nil {
		return now, usagef("function %s was made without tenant isolation, which cannot be added: take another name, or `berth delete %s` first", name, name)
	}
	now, err := a.waitSettled(ctx, c, name)
	if err != nil {
		return now, err
	}
	same := set
	same.runtime, same.handler = string(now.Runtime), aws.ToString(now.Handler)
	if differs(now, same) {
		a.err.Progress("updating the settings of %s …", name)
		if _, err := c.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
			FunctionName: &name, MemorySize: set.memory, Timeout: set.timeout, Environment: set.env,
		}); err != nil {
			return now, err
		}
		if now, err = a.waitSettled(ctx, c, name); err != nil {
			return now, err
		}
	}
	a.err.Progress("looking for %s …", image)
	if _, err := c.Lambda.UpdateFunctionCode(ctx, &lambda.UpdateFunctionCodeInput{FunctionName: &name, ImageUri: &image}); err != nil {
		return now, err
	}
	return a.waitReady(ctx, c, name)
}

func (a *app) printImage(now configuration, image string, created bool, took time.Duration) error {
	name := aws.ToString(now.FunctionName)
	if a.json {
		return a.printJSON(map[string]any{"function": name, "arn": aws.ToString(now.FunctionArn), "image": image, "state": now.State, "codeSha256": aws.ToString(now.CodeSha256), "created": created})
	}
	done := "updated"
	if created {
		done = "created"
	}
	a.out.Printf("%s %s  %s  %s\n", a.out.Paint(ui.Green, done), a.out.Paint(ui.Bold, name), image, a.out.Paint(ui.Dim, took.Round(time.Millisecond).String()))
	if a.out.IsTerminal() && created {
		a.out.Printf("%s\n", a.out.Paint(ui.Dim, "call it with: berth invoke "+name))
	}
	return nil
}
