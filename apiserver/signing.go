package apiserver

import (
	"context"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// Code signing configurations are kept and shown. Signatures are not known here, so code is never signed: a configuration
// that enforces signatures refuses all code, one that only warns lets it pass.

func (s *Server) describeSigning(a lambda.AccountID, cfg *catalog.CodeSigning) *types.CodeSigningConfig {
	return &types.CodeSigningConfig{
		AllowedPublishers:    &types.AllowedPublishers{SigningProfileVersionArns: cfg.Publishers},
		CodeSigningConfigArn: aws.String(s.cfg.Catalog.SigningARN(a, cfg.ID)),
		CodeSigningConfigId:  aws.String(cfg.ID),
		CodeSigningPolicies:  &types.CodeSigningPolicies{UntrustedArtifactOnDeployment: types.CodeSigningPolicy(cfg.Policy)},
		Description:          aws.String(cfg.Description),
		LastModified:         aws.String(cfg.Modified.UTC().Format(timeFormat)),
	}
}

func signingNotFound(arn string) error {
	return lambda.Errorf(lambda.ResourceNotFound, "The Lambda code signing configuration %s can not be found.", arn)
}

func signingMissing(arn string) error {
	return lambda.Errorf(lambda.CodeSigningMissing,
		"The code signing configuration cannot be found. Check that the provided configuration is not deleted: %s.", arn)
}

// signingID returns the ID within an ARN of one of the caller's code signing configurations, "" for any other text.
func (s *Server) signingID(c *call, arn *string) string {
	text := aws.ToString(arn)
	id := text[strings.LastIndexByte(text, ':')+1:]
	if s.cfg.Catalog.SigningARN(c.account, id) != text {
		return ""
	}
	return id
}

func (s *Server) createCodeSigning(ctx context.Context, c *call, in *sdk.CreateCodeSigningConfigInput) (*sdk.CreateCodeSigningConfigOutput, error) {
	cfg := catalog.CodeSigning{
		Publishers: in.AllowedPublishers.SigningProfileVersionArns, Policy: string(types.CodeSigningPolicyWarn),
		Description: aws.ToString(in.Description), Tags: in.Tags,
	}
	if p := in.CodeSigningPolicies; p != nil && p.UntrustedArtifactOnDeployment != "" {
		cfg.Policy = string(p.UntrustedArtifactOnDeployment)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	made, err := s.cfg.Catalog.CreateSigning(ctx, c.account, cfg)
	if err != nil {
		return nil, err
	}
	return &sdk.CreateCodeSigningConfigOutput{CodeSigningConfig: s.describeSigning(c.account, made)}, nil
}

func (s *Server) getCodeSigning(_ context.Context, c *call, in *sdk.GetCodeSigningConfigInput) (*sdk.GetCodeSigningConfigOutput, error) {
	cfg, ok := s.cfg.Catalog.SigningByARN(c.account, aws.ToString(in.CodeSigningConfigArn))
	if !ok {
		return nil, signingNotFound(*in.CodeSigningConfigArn)
	}
	return &sdk.GetCodeSigningConfigOutput{CodeSigningConfig: s.describeSigning(c.account, cfg)}, nil
}

func (s *Server) updateCodeSigning(ctx context.Context, c *call, in *sdk.UpdateCodeSigningConfigInput) (*sdk.UpdateCodeSigningConfigOutput, error) {
	missing := signingNotFound(*in.CodeSigningConfigArn)
	cfg, err := s.cfg.Catalog.UpdateSigning(ctx, c.account, s.signingID(c, in.CodeSigningConfigArn), missing, func(cfg *catalog.CodeSigning) error {
		if in.AllowedPublishers != nil {
			cfg.Publishers = in.AllowedPublishers.SigningProfileVersionArns
		}
		if p := in.CodeSigningPolicies; p != nil && p.UntrustedArtifactOnDeployment != "" {
			cfg.Policy = string(p.UntrustedArtifactOnDeployment)
		}
		set(&cfg.Description, in.Description)
		cfg.Modified = time.Now()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &sdk.UpdateCodeSigningConfigOutput{CodeSigningConfig: s.describeSigning(c.account, cfg)}, nil
}

func (s *Server) deleteCodeSigning(ctx context.Context, c *call, in *sdk.DeleteCodeSigningConfigInput) (*none, error) {
	missing := signingNotFound(*in.CodeSigningConfigArn)
	return &none{}, s.cfg.Catalog.DeleteSigning(ctx, c.account, s.signingID(c, in.CodeSigningConfigArn), missing)
}

func (s *Server) listCodeSignings(_ context.Context, c *call, in *sdk.ListCodeSigningConfigsInput) (*sdk.ListCodeSigningConfigsOutput, error) {
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.Signings(c.account, after, pageSize(in.MaxItems))
	out := &sdk.ListCodeSigningConfigsOutput{CodeSigningConfigs: []types.CodeSigningConfig{}, NextMarker: markerOf(next)}
	for _, cfg := range list {
		out.CodeSigningConfigs = append(out.CodeSigningConfigs, *s.describeSigning(c.account, cfg))
	}
	return out, nil
}

func (s *Server) listFunctionsByCodeSigning(_ context.Context, c *call, in *sdk.ListFunctionsByCodeSigningConfigInput) (*sdk.ListFunctionsByCodeSigningConfigOutput, error) {
	cfg, ok := s.cfg.Catalog.SigningByARN(c.account, aws.ToString(in.CodeSigningConfigArn))
	if !ok {
		return nil, signingNotFound(*in.CodeSigningConfigArn)
	}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.SignedFunctions(c.account, cfg.ID, after, pageSize(in.MaxItems))
	out := &sdk.ListFunctionsByCodeSigningConfigOutput{FunctionArns: []string{}, NextMarker: markerOf(next)}
	for _, f := range list {
		out.FunctionArns = append(out.FunctionArns, f.ARN())
	}
	return out, nil
}

// getFunctionCodeSigning answers with no members when the function has none; Terraform asks for every function.
func (s *Server) getFunctionCodeSigning(_ context.Context, c *call, in *sdk.GetFunctionCodeSigningConfigInput) (*sdk.GetFunctionCodeSigningConfigOutput, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil || f.Signing == "" {
		return new(sdk.GetFunctionCodeSigningConfigOutput), err
	}
	return &sdk.GetFunctionCodeSigningConfigOutput{
		CodeSigningConfigArn: aws.String(s.cfg.Catalog.SigningARN(c.account, f.Signing)), FunctionName: aws.String(f.Latest.Function)}, nil
}

func (s *Server) putFunctionCodeSigning(ctx context.Context, c *call, in *sdk.PutFunctionCodeSigningConfigInput) (*sdk.PutFunctionCodeSigningConfigOutput, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	missing := signingMissing(*in.CodeSigningConfigArn)
	id := s.signingID(c, in.CodeSigningConfigArn)
	if id == "" {
		return nil, missing
	}
	if err := s.cfg.Catalog.SetSigning(ctx, f.ID(), id, missing); err != nil {
		return nil, err
	}
	return &sdk.PutFunctionCodeSigningConfigOutput{CodeSigningConfigArn: in.CodeSigningConfigArn, FunctionName: aws.String(f.Latest.Function)}, nil
}

func (s *Server) deleteFunctionCodeSigning(ctx context.Context, c *call, in *sdk.DeleteFunctionCodeSigningConfigInput) (*none, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.SetSigning(ctx, f.ID(), "", nil)
}

// checkSigned refuses code for a function whose code must be signed, by a configuration of the function's owner. Text as users
// report it.
func (s *Server) checkSigned(owner lambda.AccountID, id string) error {
	cfg, ok := s.cfg.Catalog.SigningByARN(owner, s.cfg.Catalog.SigningARN(owner, id))
	if id == "" || !ok || !cfg.Enforces() {
		return nil
	}
	return lambda.Errorf(lambda.CodeVerification, "The code signature failed one or more of the validation checks for signature mismatch "+
		"or expiry, and the code signing policy is set to ENFORCE. Lambda blocks the deployment. (This server knows no signatures: set the policy to Warn.)")
}
