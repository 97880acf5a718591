package apiserver

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

func (s *Server) updateFunctionCode(ctx context.Context, c *call, in *sdk.UpdateFunctionCodeInput) (*types.FunctionConfiguration, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	switch {
	case f.Latest.Image != nil && in.ImageUri == nil:
		return nil, invalid("Please provide ImageUri when updating a function with packageType Image.")
	case f.Latest.Image == nil && in.ImageUri != nil:
		return nil, invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
	}
	kind := types.PackageTypeZip
	if in.ImageUri != nil {
		kind = types.PackageTypeImage
	}
	if err := checkCode(codeRequest{kind, in.ZipFile, in.S3Bucket, in.ImageUri, in.SourceKMSKeyArn}); err != nil {
		return nil, err
	}
	if in.PublishTo != "" {
		return nil, invalid("PublishTo is not supported by this server yet. Leave it out.")
	}
	if err := s.checkSigned(f.Latest.Account, f.Signing); err != nil {
		return nil, err
	}
	if in.ImageUri != nil {
		return s.updateImage(ctx, f, in)
	}
	var uploaded catalog.Version
	if in.DryRun {
		return s.dryUpdate(f, in)
	}
	if err := s.storeCode(ctx, &uploaded, in.ZipFile); err != nil {
		return nil, err
	}
	f, published, err := s.cfg.Catalog.Update(ctx, f.ID(), aws.ToString(in.RevisionId), in.Publish, func(v *catalog.Version) error {
		v.Code, v.CodeSHA256, v.CodeSize, v.Unpacked = uploaded.Code, uploaded.CodeSHA256, uploaded.CodeSize, uploaded.Unpacked
		setArchitecture(v, in.Architectures)
		return checkUnpacked(v)
	})
	if err != nil {
		return nil, err
	}
	return s.updated(f, published), nil
}

// updated has new code prepared, and shows the version that was published of it, if any, or else $LATEST.
func (s *Server) updated(f *catalog.Function, published *catalog.Version) *types.FunctionConfiguration {
	s.wakeFor(f, published)
	if published != nil {
		return s.describe(published, published.ARN())
	}
	return s.describe(&f.Latest, f.ARN())
}

// dryUpdate verifies an upload and shows what the function would be, without storing anything.
func (s *Server) dryUpdate(f *catalog.Function, in *sdk.UpdateFunctionCodeInput) (*types.FunctionConfiguration, error) {
	if id := aws.ToString(in.RevisionId); id != "" && id != f.Latest.RevisionID {
		return nil, lambda.Errorf(lambda.PreconditionFailed, "The Revision Id provided does not match the latest Revision Id. "+
			"Call the GetFunction/GetAlias API to retrieve the latest Revision Id")
	}
	info, err := s.cfg.Inspect(in.ZipFile)
	if err != nil {
		return nil, err
	}
	v := f.Latest
	v.CodeSHA256, v.CodeSize = info.SHA256, info.Size
	setArchitecture(&v, in.Architectures)
	return s.describe(&v, f.ARN()), nil
}

func (s *Server) updateFunctionConfiguration(ctx context.Context, c *call, in *sdk.UpdateFunctionConfigurationInput) (*types.FunctionConfiguration, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	for _, refused := range []struct {
		given bool
		name  string
	}{
		{in.CapacityProviderConfig != nil, "CapacityProviderConfig"},
		{in.DurableConfig != nil, "DurableConfig"},
		{len(in.FileSystemConfigs) > 0, "FileSystemConfigs"},
	} {
		if refused.given {
			return nil, invalid("%s is not supported by this server yet. Leave it out.", refused.name)
		}
	}
	settings := updateSettings(in)
	if err := settings.check(); err != nil {
		return nil, err
	}
	switch {
	case f.Latest.Image != nil && (in.Runtime != "" || in.Handler != nil || len(in.Layers) > 0):
		return nil, invalid(textNotForImages)
	case f.Latest.Image == nil && in.ImageConfig != nil:
		return nil, invalid(textImagesOnly)
	}
	layers, err := s.attach(c, in.Layers)
	if err != nil {
		return nil, err
	}
	if err := checkTenancy(f.Latest.PerTenant, in.SnapStart); err != nil {
		return nil, err
	}
	f, _, err = s.cfg.Catalog.Update(ctx, f.ID(), aws.ToString(in.RevisionId), false, func(v *catalog.Version) error {
		settings.apply(v)
		layers.apply(v)
		setImageConfig(v, in.ImageConfig)
		return checkUnpacked(v)
	})
	if err != nil {
		return nil, err
	}
	s.wakeFor(f, nil)
	return s.describe(&f.Latest, f.ARN()), nil
}
