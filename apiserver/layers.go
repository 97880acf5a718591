package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// noSuchResource is what several operations say of what is not there (recorded).
func noSuchResource() error {
	return lambda.Errorf(lambda.ResourceNotFound, "The resource you requested does not exist.")
}

// layerID reads the name or ARN of a layer. Of other accounts it takes none but the layer that permit let through.
func (s *Server) layerID(c *call, name *string) (catalog.LayerID, error) {
	id, err := s.readLayer(c, aws.ToString(name))
	if err == nil && id.Account != c.account && (c.across == nil || id != c.across.layer) {
		err = lambda.Errorf(lambda.AccessDenied, "Account %s is not authorized to use the resource %s because no resource-based policy allows it",
			c.account, s.cfg.Catalog.LayerARN(id))
	}
	return id, err
}

// readLayer makes a name of a layer whole, whosever it is.
func (s *Server) readLayer(c *call, name string) (catalog.LayerID, error) {
	parts := strings.Split(name, ":") // arn:aws:lambda:REGION:ACCOUNT:layer:NAME, or NAME; the model has checked
	id := catalog.LayerID{Account: c.account, Name: parts[len(parts)-1]}
	if len(parts) < 7 {
		return id, nil
	}
	if region := s.cfg.Catalog.Region(); parts[3] != region {
		return id, lambda.Errorf(lambda.ResourceNotFound, "Layers from '%s' are not reachable in this region ('%s')", parts[3], region)
	}
	id.Account = lambda.AccountID(parts[4])
	return id, nil
}

// layerVersionID is layerID with a version number.
func (s *Server) layerVersionID(c *call, name *string, number *int64) (catalog.LayerID, int64, error) {
	n := aws.ToInt64(number)
	if n < 1 {
		return catalog.LayerID{}, 0, invalid("Layer Version Cannot be less than 1")
	}
	id, err := s.layerID(c, name)
	return id, n, err
}

func (s *Server) publishLayerVersion(ctx context.Context, c *call, in *sdk.PublishLayerVersionInput) (*sdk.PublishLayerVersionOutput, error) {
	id, err := s.layerID(c, in.LayerName)
	if err != nil {
		return nil, err
	}
	switch content := in.Content; {
	case content.S3Bucket != nil && len(content.ZipFile) == 0:
		return nil, noS3(*content.S3Bucket)
	case len(content.ZipFile) == 0:
		return nil, invalid("Please provide a source for layer content.")
	}
	info, err := s.cfg.Inspect(in.Content.ZipFile)
	if err != nil {
		return nil, err
	}
	digest, size, err := s.cfg.Blobs.Put(ctx, bytes.NewReader(in.Content.ZipFile))
	if err != nil {
		return nil, fmt.Errorf("store the content of layer %s: %w", id.Name, err)
	}
	v, err := s.cfg.Catalog.PublishLayer(ctx, id, catalog.LayerVersion{
		CodeBytes: size, Code: digest, CodeSHA256: info.SHA256, Unpacked: info.Unpacked,
		Description: aws.ToString(in.Description), License: aws.ToString(in.LicenseInfo),
		Runtimes: texts(in.CompatibleRuntimes), Architectures: texts(in.CompatibleArchitectures),
	})
	if err != nil {
		return nil, err
	}
	out := sdk.PublishLayerVersionOutput(*s.describeLayer(c, id, v))
	return &out, nil
}

// texts turns a list of one string type into another, nil into nil.
func texts[T ~string](in []T) []string {
	if in == nil {
		return nil
	}
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = string(v)
	}
	return out
}

func typed[T ~string](in []string) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = T(v)
	}
	return out
}

// describeLayer shows a layer's version with its content.
func (s *Server) describeLayer(c *call, id catalog.LayerID, v *catalog.LayerVersion) *sdk.GetLayerVersionOutput {
	item := s.listLayer(id, v)
	return &sdk.GetLayerVersionOutput{
		CompatibleArchitectures: item.CompatibleArchitectures,
		CompatibleRuntimes:      item.CompatibleRuntimes,
		Content: &types.LayerVersionContentOutput{
			CodeSha256: aws.String(v.CodeSHA256), CodeSize: v.CodeBytes, Location: aws.String(s.codeLink(c.r, v.Code))},
		CreatedDate:     item.CreatedDate,
		Description:     item.Description,
		LayerArn:        aws.String(s.cfg.Catalog.LayerARN(id)),
		LayerVersionArn: item.LayerVersionArn,
		LicenseInfo:     item.LicenseInfo,
		Version:         v.Number,
	}
}

// listLayer shows a layer's version as lists do.
func (s *Server) listLayer(id catalog.LayerID, v *catalog.LayerVersion) *types.LayerVersionsListItem {
	return &types.LayerVersionsListItem{
		CompatibleArchitectures: typed[types.Architecture](v.Architectures),
		CompatibleRuntimes:      typed[types.Runtime](v.Runtimes),
		CreatedDate:             aws.String(v.Created.UTC().Format(timeFormat)),
		Description:             aws.String(v.Description),
		LayerVersionArn:         aws.String(s.cfg.Catalog.LayerVersionARN(id, v.Number)),
		LicenseInfo:             optional(v.License),
		Version:                 v.Number,
	}
}

func (s *Server) getLayerVersion(_ context.Context, c *call, in *sdk.GetLayerVersionInput) (*sdk.GetLayerVersionOutput, error) {
	id, n, err := s.layerVersionID(c, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	v, ok := s.cfg.Catalog.LayerVersion(id, n)
	if !ok {
		return nil, noSuchResource()
	}
	return s.describeLayer(c, id, v), nil
}

func (s *Server) getLayerVersionByArn(ctx context.Context, c *call, in *sdk.GetLayerVersionByArnInput) (*sdk.GetLayerVersionByArnOutput, error) {
	arn := aws.ToString(in.Arn)
	if strings.Contains(arn, ":awslayer:") {
		return nil, noSuchResource()
	}
	layer, number, err := splitLayerVersion(arn)
	if err != nil {
		return nil, err
	}
	v, err := s.getLayerVersion(ctx, c, &sdk.GetLayerVersionInput{LayerName: &layer, VersionNumber: &number})
	if err != nil {
		return nil, err
	}
	out := sdk.GetLayerVersionByArnOutput(*v)
	return &out, nil
}

// splitLayerVersion takes the ARN of a layer's version apart; the model has checked its form. A number that is too large for
// any version counts as the largest.
func splitLayerVersion(arn string) (layer string, number int64, err error) {
	i := strings.LastIndexByte(arn, ':')
	number, _ = strconv.ParseInt(arn[i+1:], 10, 64) // out of range: the largest
	if i < 0 || number < 0 {
		return "", 0, noSuchResource()
	}
	return arn[:i], number, nil
}

func (s *Server) listLayers(_ context.Context, c *call, in *sdk.ListLayersInput) (*sdk.ListLayersOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.Layers(c.account, after, pageSize(in.MaxItems), fits(in.CompatibleRuntime, in.CompatibleArchitecture))
	out := &sdk.ListLayersOutput{Layers: []types.LayersListItem{}, NextMarker: markerOf(next)}
	for _, v := range list {
		id := catalog.LayerID{Account: c.account, Name: v.Layer}
		out.Layers = append(out.Layers, types.LayersListItem{
			LatestMatchingVersion: s.listLayer(id, v), LayerArn: aws.String(s.cfg.Catalog.LayerARN(id)), LayerName: aws.String(v.Layer)})
	}
	return out, nil
}

func fits(runtime types.Runtime, architecture types.Architecture) func(*catalog.LayerVersion) bool {
	return func(v *catalog.LayerVersion) bool { return v.Fits(string(runtime), string(architecture)) }
}

func (s *Server) listLayerVersions(_ context.Context, c *call, in *sdk.ListLayerVersionsInput) (*sdk.ListLayerVersionsOutput, error) {
	id, err := s.layerID(c, in.LayerName)
	if err != nil {
		return nil, err
	}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	before := int64(0)
	if after != "" {
		if before, err = strconv.ParseInt(after, 10, 64); err != nil || before < 1 {
			return nil, wrongMarker()
		}
	}
	list, next := s.cfg.Catalog.LayerVersions(id, before, pageSize(in.MaxItems), fits(in.CompatibleRuntime, in.CompatibleArchitecture))
	out := &sdk.ListLayerVersionsOutput{LayerVersions: []types.LayerVersionsListItem{}}
	for _, v := range list {
		out.LayerVersions = append(out.LayerVersions, *s.listLayer(id, v))
	}
	if next > 0 {
		out.NextMarker = markerOf(strconv.FormatInt(next, 10))
	}
	return out, nil
}

func (s *Server) deleteLayerVersion(ctx context.Context, c *call, in *sdk.DeleteLayerVersionInput) (*none, error) {
	id, n, err := s.layerVersionID(c, in.LayerName, in.VersionNumber)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.DeleteLayerVersion(ctx, id, n)
}
