package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// ref makes a caller's name of a function whole. Of other accounts it takes none but the function that permit let through.
func (s *Server) ref(c *call, name, qualifier *string) (lambda.Ref, error) {
	ref, err := lambda.ReadRef(aws.ToString(name), aws.ToString(qualifier), c.account, s.cfg.Catalog.Region())
	if err == nil && ref.Account != c.account && (c.across == nil || idOf(ref) != c.across.function) {
		return lambda.ParseRef(aws.ToString(name), aws.ToString(qualifier), c.account, s.cfg.Catalog.Region())
	}
	return ref, err
}

func idOf(ref lambda.Ref) catalog.ID { return catalog.ID{Account: ref.Account, Name: ref.Function} }

// function finds the function that a caller named; a qualifier is left aside.
func (s *Server) function(c *call, name *string) (*catalog.Function, error) {
	ref, err := s.ref(c, name, nil)
	if err != nil {
		return nil, err
	}
	f, ok := s.cfg.Catalog.Function(idOf(ref))
	if !ok {
		ref.Qualifier = ""
		return nil, catalog.NotFound(ref.ARN())
	}
	return f, nil
}

func (s *Server) createFunction(ctx context.Context, c *call, in *sdk.CreateFunctionInput) (*types.FunctionConfiguration, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if ref.Qualifier != "" {
		return nil, invalid("A new function has no versions or aliases yet: give its name without the qualifier %q.", ref.Qualifier)
	}
	if err := checkCreate(in); err != nil {
		return nil, err
	}
	id := idOf(ref)
	if _, taken := s.cfg.Catalog.Function(id); taken { // Create finds out for certain; this spares the upload
		return nil, lambda.Errorf(lambda.ResourceConflict, "Function already exist: %s", id.Name)
	}
	layers, err := s.attach(c, in.Layers)
	if err != nil {
		return nil, err
	}
	signing, missing := s.signingID(c, in.CodeSigningConfigArn), signingMissing(aws.ToString(in.CodeSigningConfigArn))
	if in.CodeSigningConfigArn != nil && signing == "" {
		return nil, missing
	}
	if err := s.checkSigned(c.account, signing); err != nil {
		return nil, err
	}
	v := defaults(id)
	set := createSettings(in)
	set.apply(&v)
	v.PerTenant = in.TenancyConfig != nil // the model allows one mode
	layers.apply(&v)
	setArchitecture(&v, in.Architectures)
	if in.Code.ImageUri != nil {
		err = s.useImage(ctx, &v, *in.Code.ImageUri)
		setImageConfig(&v, in.ImageConfig)
	} else {
		err = s.storeCode(ctx, &v, in.Code.ZipFile)
	}
	if err != nil {
		return nil, err
	}
	f, published, err := s.cfg.Catalog.CreateWith(ctx, v, catalog.Extras{Tags: in.Tags, Signing: signing, SigningMissing: missing}, in.Publish)
	if err != nil {
		return nil, err
	}
	s.wakeFor(f, published)
	if published != nil {
		return s.describe(published, f.ARN()), nil // unqualified, as recorded
	}
	return s.describe(&f.Latest, f.ARN()), nil
}

// checkCreate refuses what the model allows in CreateFunction and the service, or Berth, does not.
func checkCreate(in *sdk.CreateFunctionInput) error {
	if err := checkCode(codeRequest{in.PackageType, in.Code.ZipFile, in.Code.S3Bucket, in.Code.ImageUri, in.Code.SourceKMSKeyArn}); err != nil {
		return err
	}
	for _, refused := range []struct {
		given bool
		name  string
	}{
		{in.CapacityProviderConfig != nil, "CapacityProviderConfig"},
		{in.DurableConfig != nil, "DurableConfig"},
		{len(in.FileSystemConfigs) > 0, "FileSystemConfigs"},
		{in.PublishTo != "", "PublishTo"},
	} {
		if refused.given {
			return invalid("%s is not supported by this server yet. Leave it out.", refused.name)
		}
	}
	settings := createSettings(in)
	if err := settings.check(); err != nil {
		return err
	}
	if err := checkTenancy(in.TenancyConfig != nil, in.SnapStart); err != nil {
		return err
	}
	if in.Code.ImageUri != nil {
		if in.Runtime != "" || in.Handler != nil || len(in.Layers) > 0 {
			return invalid(textNotForImages)
		}
		return checkTags(in.Tags)
	}
	if in.ImageConfig != nil {
		return invalid(textImagesOnly)
	}
	if in.Runtime == "" || aws.ToString(in.Handler) == "" {
		return invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	}
	return checkTags(in.Tags)
}

// codeRequest is where a request says that code comes from.
type codeRequest struct {
	kind     types.PackageType
	zip      []byte
	bucket   *string
	image    *string
	sourceKM *string
}

// checkCode refuses sources of code that Berth does not have.
func checkCode(r codeRequest) error {
	switch {
	case r.image != nil && (len(r.zip) > 0 || r.bucket != nil):
		return invalid("Please provide only one source for function code: ImageUri, or a zip.")
	case r.image != nil && r.kind != types.PackageTypeImage:
		return invalid("Please don't provide ImageUri when creating a function with packageType Zip.")
	case r.image != nil:
		return nil
	case r.kind == types.PackageTypeImage:
		return invalid("Please provide ImageUri when creating a function with packageType Image.")
	case r.bucket != nil:
		return noS3(*r.bucket)
	case r.sourceKM != nil:
		return invalid("SourceKMSKeyArn is not supported by this server. Give the zip unencrypted.")
	case len(r.zip) == 0:
		return invalid("Please provide a source for function code.")
	case len(r.zip) > lambda.MaxCodeZip:
		return lambda.Errorf(lambda.RequestEntityTooLarge, "Zipped size must be smaller than %d bytes", lambda.MaxCodeZip)
	}
	return nil
}

// noS3 refuses a zip in a bucket.
func noS3(bucket string) error {
	return invalid("Error occurred while GetObject. This server has no S3: bucket %q cannot be read. Give the zip itself in ZipFile.", bucket)
}

func setArchitecture(v *catalog.Version, list []types.Architecture) {
	if len(list) > 0 {
		v.Architecture = string(list[0])
	}
}

// storeCode verifies a zip, stores it, and writes what it is into v.
func (s *Server) storeCode(ctx context.Context, v *catalog.Version, zip []byte) error {
	info, err := s.cfg.Inspect(zip)
	if err != nil {
		return err
	}
	v.Unpacked = info.Unpacked
	if err := checkUnpacked(v); err != nil {
		return err
	}
	digest, size, err := s.cfg.Blobs.Put(ctx, bytes.NewReader(zip))
	if err != nil {
		return fmt.Errorf("store the code of %s: %w", v.Function, err)
	}
	v.Code, v.CodeSHA256, v.CodeSize = digest, info.SHA256, size
	return nil
}

// find resolves what a reader named: the function, the version, and the ARN as the caller wrote it.
func (s *Server) find(c *call, name, qualifier *string) (*catalog.Function, *catalog.Version, string, error) {
	ref, err := s.ref(c, name, qualifier)
	if err != nil {
		return nil, nil, "", err
	}
	id := idOf(ref)
	f, ok := s.cfg.Catalog.Function(id)
	if !ok {
		return nil, nil, "", catalog.NotFound(ref.ARN())
	}
	number := ref.Qualifier
	switch {
	case number == "":
		number = lambda.Latest
	case !lambda.IsVersionNumber(number):
		a, ok := s.cfg.Catalog.Alias(id, number)
		if !ok {
			return nil, nil, "", catalog.NotFound(ref.ARN())
		}
		number = a.Version
	}
	if number == lambda.Latest {
		return f, &f.Latest, ref.ARN(), nil
	}
	v, ok := s.cfg.Catalog.Version(id, number)
	if !ok {
		return nil, nil, "", catalog.NotFound(ref.ARN())
	}
	return f, v, ref.ARN(), nil
}

func (s *Server) getFunction(_ context.Context, c *call, in *sdk.GetFunctionInput) (*sdk.GetFunctionOutput, error) {
	f, v, arn, err := s.find(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	out := &sdk.GetFunctionOutput{
		Code:          &types.FunctionCodeLocation{Location: aws.String(s.codeLink(c.r, v.Code)), RepositoryType: aws.String("S3")},
		Configuration: s.describe(v, arn),
	}
	if i := v.Image; i != nil {
		out.Code = &types.FunctionCodeLocation{ImageUri: &i.URI, ResolvedImageUri: &i.Resolved, RepositoryType: aws.String("ECR")}
	}
	if f.Reserved != nil {
		out.Concurrency = &types.Concurrency{ReservedConcurrentExecutions: aws.Int32(int32(*f.Reserved))}
	}
	if len(f.Tags) > 0 {
		out.Tags = f.Tags
	}
	return out, nil
}

func (s *Server) getFunctionConfiguration(_ context.Context, c *call, in *sdk.GetFunctionConfigurationInput) (*types.FunctionConfiguration, error) {
	_, v, arn, err := s.find(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return s.describe(v, arn), nil
}

func (s *Server) deleteFunction(ctx context.Context, c *call, in *sdk.DeleteFunctionInput) (*sdk.DeleteFunctionOutput, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	switch {
	case ref.Qualifier == lambda.Latest:
		return nil, invalid("$LATEST version cannot be deleted without deleting the function.")
	case ref.Qualifier == "":
		err = s.cfg.Catalog.Delete(ctx, idOf(ref))
	case lambda.IsVersionNumber(ref.Qualifier):
		err = s.cfg.Catalog.DeleteVersion(ctx, idOf(ref), ref.Qualifier)
	default:
		return nil, invalid("Deletion of aliases is not currently supported.")
	}
	if err != nil {
		return nil, err
	}
	return &sdk.DeleteFunctionOutput{StatusCode: http.StatusNoContent}, nil
}
