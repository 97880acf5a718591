package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"berth/client"
	"berth/code"
	limits "berth/lambda"
	"berth/ui"
)

func (a *app) layerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "layer",
		Short: "Publish, list and delete layers: files that functions share, shown at /opt",
		Long: `A layer is a directory of files that functions find at /opt: libraries in python/, in nodejs/node_modules/, programs in
bin/, shared libraries in lib/. Each publishing makes a new version; a function names up to five of them, and of files of
one name it sees the last layer's. A version that is deleted stays with the functions that have it.`,
		Example: `  pip install -t libs/python requests && berth layer publish libs ./libs
  berth deploy handler.py --layer libs          # the newest version
  berth deploy handler.py --layer libs:3 --layer certificates:1`,
	}
	cmd.AddCommand(a.layerPublishCommand(), a.layerListCommand(), a.layerDeleteCommand())
	return cmd
}

func (a *app) layerPublishCommand() *cobra.Command {
	var runtimes []string
	var description string
	cmd := &cobra.Command{
		Use:   "publish NAME DIR|FILE.zip",
		Short: "Make a new version of a layer out of a directory or a zip",
		Args:  cobra.ExactArgs(2),
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		return a.publishLayer(ctx, c, args[0], args[1], description, runtimes)
	})
	cmd.Flags().StringArrayVar(&runtimes, "runtime", nil, "a runtime that the layer is for, like python3.11; may be given many times")
	cmd.Flags().StringVar(&description, "description", "", "what the layer is")
	return cmd
}

func (a *app) publishLayer(ctx context.Context, c *client.Client, name, source, description string, runtimes []string) error {
	a.err.Progress("packing %s …", source)
	zipped, err := layerZip(source)
	if err != nil {
		return err
	}
	in := &lambda.PublishLayerVersionInput{LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: zipped}}
	if description != "" {
		in.Description = &description
	}
	for _, r := range runtimes {
		in.CompatibleRuntimes = append(in.CompatibleRuntimes, types.Runtime(r))
	}
	a.err.Progress("uploading %s …", size(int64(len(zipped))))
	out, err := c.Lambda.PublishLayerVersion(ctx, in)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"layer": name, "version": out.Version, "arn": aws.ToString(out.LayerVersionArn), "codeSize": out.Content.CodeSize})
	}
	a.out.Printf("%s %s:%d  %s\n", a.out.Paint(ui.Green, "published"), a.out.Paint(ui.Bold, name), out.Version, a.out.Paint(ui.Dim, size(out.Content.CodeSize)))
	return nil
}

// layerZip takes a zip as it is and packs anything else.
func layerZip(source string) ([]byte, error) {
	if !strings.HasSuffix(source, ".zip") {
		return code.Zip(source)
	}
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if info.Size() > limits.MaxCodeZip {
		return nil, fmt.Errorf("it has %s, more than the %s that can be uploaded at once", size(info.Size()), size(limits.MaxCodeZip))
	}
	return os.ReadFile(source)
}

func (a *app) layerListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list [NAME]",
		Aliases: []string{"ls"},
		Short:   "List the layers, or the versions of one",
		Args:    cobra.MaximumNArgs(1),
		RunE:    a.withClient(a.listLayers),
	}
}

func (a *app) listLayers(ctx context.Context, c *client.Client, args []string) error {
	var rows [][]string
	show := func(name string, v types.LayerVersionsListItem) error {
		if a.json {
			return a.printJSON(map[string]any{"layer": name, "version": v.Version, "arn": aws.ToString(v.LayerVersionArn),
				"runtimes": v.CompatibleRuntimes, "created": aws.ToString(v.CreatedDate)})
		}
		var runtimes []string
		for _, r := range v.CompatibleRuntimes {
			runtimes = append(runtimes, string(r))
		}
		rows = append(rows, []string{name, strconv.FormatInt(v.Version, 10), strings.Join(runtimes, " "), when(aws.ToString(v.CreatedDate)), aws.ToString(v.Description)})
		return nil
	}
	var err error
	if len(args) == 0 {
		err = eachLayer(ctx, c, show)
	} else {
		err = eachVersion(ctx, c, args[0], show)
	}
	switch {
	case err != nil:
		return err
	case a.json:
	case len(rows) == 0:
		a.out.Printf("no layers yet: `berth layer publish NAME DIR` makes one\n")
	default:
		a.out.Table([]string{"NAME", "VERSION", "RUNTIMES", "CREATED", "DESCRIPTION"}, rows)
	}
	return nil
}

func eachLayer(ctx context.Context, c *client.Client, show func(string, types.LayerVersionsListItem) error) error {
	pages := lambda.NewListLayersPaginator(c.Lambda, &lambda.ListLayersInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, l := range page.Layers {
			if err := show(aws.ToString(l.LayerName), *l.LatestMatchingVersion); err != nil {
				return err
			}
		}
	}
	return nil
}

func eachVersion(ctx context.Context, c *client.Client, name string, show func(string, types.LayerVersionsListItem) error) error {
	pages := lambda.NewListLayerVersionsPaginator(c.Lambda, &lambda.ListLayerVersionsInput{LayerName: &name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, v := range page.LayerVersions {
			if err := show(name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) layerDeleteCommand() *cobra.Command {
	yes := false
	cmd := &cobra.Command{
		Use:     "delete NAME:VERSION",
		Aliases: []string{"rm"},
		Short:   "Delete a version of a layer; functions that have it keep it",
		Args:    cobra.ExactArgs(1),
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		return a.deleteLayer(ctx, c, args[0], yes)
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) deleteLayer(ctx context.Context, c *client.Client, which string, yes bool) error {
	name, version, ok := strings.Cut(which, ":")
	n, err := strconv.ParseInt(version, 10, 64)
	if !ok || err != nil || n < 1 {
		return usagef("%q is not NAME:VERSION, like libs:3; `berth layer list NAME` shows the versions", which)
	}
	if _, err := c.Lambda.GetLayerVersion(ctx, &lambda.GetLayerVersionInput{LayerName: &name, VersionNumber: &n}); err != nil {
		return noLayer(err, which)
	}
	if !yes {
		if sure, err := a.confirm(ctx, "Delete "+which+"? [y/N] "); err != nil || !sure {
			return err
		}
	}
	if _, err := c.Lambda.DeleteLayerVersion(ctx, &lambda.DeleteLayerVersionInput{LayerName: &name, VersionNumber: &n}); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]string{"deleted": which})
	}
	a.out.Printf("deleted %s\n", which)
	return nil
}

func noLayer(err error, which string) error {
	if isNotFound(err) {
		return fmt.Errorf("there is no layer %s; `berth layer list` shows those that there are", which)
	}
	return err
}

// layerARNs turns NAME, NAME:VERSION and ARNs into ARNs; nil stays nil.
func layerARNs(ctx context.Context, c *client.Client, layers []string) ([]string, error) {
	var arns []string
	for _, which := range layers {
		name, version, numbered := strings.Cut(which, ":")
		switch {
		case strings.HasPrefix(which, "arn:"):
			arns = append(arns, which)
			continue
		case which == "":
			return nil, usagef("--layer needs a name")
		}
		var arn string
		if numbered {
			n, err := strconv.ParseInt(version, 10, 64)
			if err != nil || n < 1 {
				return nil, usagef("--layer %q is not NAME, NAME:VERSION or an ARN", which)
			}
			out, err := c.Lambda.GetLayerVersion(ctx, &lambda.GetLayerVersionInput{LayerName: &name, VersionNumber: &n})
			if err != nil {
				return nil, noLayer(err, which)
			}
			arn = aws.ToString(out.LayerVersionArn)
		} else {
			err := eachVersion(ctx, c, name, func(_ string, v types.LayerVersionsListItem) error {
				arn = aws.ToString(v.LayerVersionArn)
				return errNewest // the first is the newest
			})
			if err != nil && !errors.Is(err, errNewest) {
				return nil, err
			}
			if arn == "" {
				return nil, fmt.Errorf("there is no layer %s; `berth layer publish %s DIR` makes one", name, name)
			}
		}
		arns = append(arns, arn)
	}
	return arns, nil
}

var errNewest = errors.New("found")
