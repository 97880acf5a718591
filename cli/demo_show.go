package cli

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

const (
	demoEvent    = `{"name":"Ada"}`
	demoWarm     = 100 // warm calls of each function
	demoWeighted = 40  // calls of the weighted alias
	demoAlias    = "live"
)

// showFunction deploys one example and calls it cold and warm.
func (a *app) showFunction(ctx context.Context, c *client.Client, name, dir string) error {
	a.err.Progress("deploying %s …", name)
	started := time.Now()
	b, err := pack(ctx, dir, "", "")
	if err != nil {
		return err
	}
	packed := time.Since(started)
	d := deployment{name: name, zip: b.zip, settings: settings{runtime: newestRuntime(b.family, c.Server().Runtimes), handler: &b.handler}}
	started = time.Now()
	if err := a.create(ctx, c, &d); err != nil {
		return err
	}
	if _, err := a.waitReady(ctx, c, name); err != nil {
		return err
	}
	deployed := time.Since(started)

	started = time.Now()
	cold, err := demoInvoke(ctx, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(demoEvent), LogType: types.LogTypeTail})
	if err != nil {
		return err
	}
	coldTook := time.Since(started)
	var warm []time.Duration
	for range demoWarm {
		started = time.Now()
		if _, err := demoInvoke(ctx, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(demoEvent)}); err != nil {
			return err
		}
		warm = append(warm, time.Since(started))
	}
	log, err := base64.StdEncoding.DecodeString(aws.ToString(cold.LogResult))
	if err != nil {
		return fmt.Errorf("the log tail is not base64: %w", err)
	}
	a.heading(name, d.runtime+", "+b.handler)
	a.detail("deployed", "%s zip, packed in %s, active after %s", size(int64(len(b.zip))), took(packed), took(deployed))
	a.detail("cold call", "%s  %s", took(coldTook), a.out.Untrusted(string(cold.Payload)))
	a.detail("warm call", "%s  (median of %d)", took(median(warm)), demoWarm)
	for i, line := range strings.Split(strings.TrimSpace(string(log)), "\n") {
		label := ""
		if i == 0 {
			label = "log"
		}
		a.detail(label, "%s", a.logLine(strings.ReplaceAll(line, "\t", "  ")))
	}
	return nil
}

// demoInvoke calls a function that must not fail.
func demoInvoke(ctx context.Context, c *client.Client, in *lambda.InvokeInput) (*lambda.InvokeOutput, error) {
	out, err := c.Lambda.Invoke(ctx, in)
	if err == nil && out.FunctionError != nil {
		err = fmt.Errorf("the function failed (%s): %s", *out.FunctionError, out.Payload)
	}
	return out, err
}

// showVersions publishes two versions of a function, puts an alias with weights in front of both, and calls that.
func (a *app) showVersions(ctx context.Context, c *client.Client, name string) error {
	a.err.Progress("publishing versions of %s …", name)
	first, err := c.Lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &name})
	if err != nil {
		return err
	}
	_, err = c.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &name, Environment: &types.Environment{Variables: map[string]string{"GREETING": "Welcome"}},
	})
	if err != nil {
		return err
	}
	if _, err := a.waitReady(ctx, c, name); err != nil {
		return err
	}
	second, err := c.Lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &name})
	if err != nil {
		return err
	}
	_, err = c.Lambda.CreateAlias(ctx, &lambda.CreateAliasInput{
		FunctionName: &name, Name: aws.String(demoAlias), FunctionVersion: first.Version,
		RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{aws.ToString(second.Version): 0.25}},
	})
	if err != nil {
		return err
	}
	calls := map[string]int{}
	answers := map[string]string{}
	for range demoWeighted {
		out, err := demoInvoke(ctx, c, &lambda.InvokeInput{FunctionName: &name, Qualifier: aws.String(demoAlias), Payload: []byte(demoEvent)})
		if err != nil {
			return err
		}
		version := aws.ToString(out.ExecutedVersion)
		calls[version]++
		answers[version] = string(out.Payload)
	}
	a.heading("versions", fmt.Sprintf("%s:%s sends 75%% of its calls to version %s, 25%% to version %s",
		name, demoAlias, aws.ToString(first.Version), aws.ToString(second.Version)))
	for _, version := range []string{aws.ToString(first.Version), aws.ToString(second.Version)} {
		a.detail("version "+version, "%d of %d calls  %s", calls[version], demoWeighted, a.out.Untrusted(answers[version]))
	}
	return nil
}
