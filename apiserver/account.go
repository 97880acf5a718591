package apiserver

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// maxCodeStorage is the code storage of an account and region, in bytes: 75 GB (developer guide). Shown, not enforced.
const maxCodeStorage = 80530636800

func (s *Server) getAccountSettings(_ context.Context, c *call, _ *sdk.GetAccountSettingsInput) (*sdk.GetAccountSettingsOutput, error) {
	account, usage := s.cfg.Catalog.Account(c.account), s.cfg.Catalog.Usage(c.account)
	return &sdk.GetAccountSettingsOutput{
		AccountLimit: &types.AccountLimit{
			CodeSizeUnzipped:               lambda.MaxUnpacked,
			CodeSizeZipped:                 lambda.MaxCodeZip,
			ConcurrentExecutions:           int32(account.Concurrency),
			TotalCodeSize:                  maxCodeStorage,
			UnreservedConcurrentExecutions: aws.Int32(int32(account.Unreserved())),
		},
		AccountUsage: &types.AccountUsage{FunctionCount: int64(usage.Functions), TotalCodeSize: usage.CodeBytes},
	}, nil
}

func (s *Server) putFunctionConcurrency(ctx context.Context, c *call, in *sdk.PutFunctionConcurrencyInput) (*sdk.PutFunctionConcurrencyOutput, error) {
	id, err := s.unqualified(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	n := int(aws.ToInt32(in.ReservedConcurrentExecutions))
	if err := s.cfg.Catalog.SetReserved(ctx, id, &n); err != nil {
		return nil, err
	}
	return &sdk.PutFunctionConcurrencyOutput{ReservedConcurrentExecutions: in.ReservedConcurrentExecutions}, nil
}

// unqualified reads the name of a function for operations that do not take versions and aliases.
func (s *Server) unqualified(c *call, name *string) (catalog.ID, error) {
	ref, err := s.ref(c, name, nil)
	if err == nil && ref.Qualifier != "" {
		err = invalid("This operation is permitted on Lambda functions only. Aliases and versions do not support this operation. " +
			"Please specify either a function name or an unqualified function ARN.")
	}
	return idOf(ref), err
}

func (s *Server) getFunctionConcurrency(_ context.Context, c *call, in *sdk.GetFunctionConcurrencyInput) (*sdk.GetFunctionConcurrencyOutput, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	out := new(sdk.GetFunctionConcurrencyOutput)
	if f.Reserved != nil {
		out.ReservedConcurrentExecutions = aws.Int32(int32(*f.Reserved))
	}
	return out, nil
}

func (s *Server) deleteFunctionConcurrency(ctx context.Context, c *call, in *sdk.DeleteFunctionConcurrencyInput) (*none, error) {
	id, err := s.unqualified(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.SetReserved(ctx, id, nil)
}

// getFunctionCodeSigningConfig answers that there is none; Terraform asks for every function.
func (s *Server) getFunctionCodeSigningConfig(_ context.Context, c *call, in *sdk.GetFunctionCodeSigningConfigInput) (*sdk.GetFunctionCodeSigningConfigOutput, error) {
	_, err := s.function(c, in.FunctionName)
	return new(sdk.GetFunctionCodeSigningConfigOutput), err
}

// getRuntimeManagementConfig answers the default; it cannot be changed yet.
func (s *Server) getRuntimeManagementConfig(_ context.Context, c *call, in *sdk.GetRuntimeManagementConfigInput) (*sdk.GetRuntimeManagementConfigOutput, error) {
	_, v, _, err := s.find(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return &sdk.GetRuntimeManagementConfigOutput{FunctionArn: aws.String(v.ARN()), UpdateRuntimeOn: types.UpdateRuntimeOnAuto}, nil
}

// taggable reads the ARN of a function; other resources that could have tags do not exist here.
func (s *Server) taggable(c *call, resource *string) (*catalog.Function, error) {
	arn := aws.ToString(resource)
	if !strings.Contains(arn, ":function:") {
		if strings.Contains(arn, ":capacity-provider:") {
			return nil, lambda.Errorf(lambda.ResourceNotFound, "Capacity provider not found: %s", arn)
		}
		return nil, lambda.Errorf(lambda.ResourceNotFound, "The resource you requested does not exist.")
	}
	ref, err := s.ref(c, resource, nil)
	if err != nil {
		return nil, err
	}
	if ref.Qualifier != "" {
		return nil, invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	return s.function(c, resource)
}

func (s *Server) tagResource(ctx context.Context, c *call, in *sdk.TagResourceInput) (*none, error) {
	if len(in.Tags) == 0 {
		return nil, invalid("An error occurred and the request cannot be processed.")
	}
	f, err := s.taggable(c, in.Resource)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.Tag(ctx, f.ID(), in.Tags, nil)
}

func (s *Server) untagResource(ctx context.Context, c *call, in *sdk.UntagResourceInput) (*none, error) {
	f, err := s.taggable(c, in.Resource)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.Tag(ctx, f.ID(), nil, in.TagKeys)
}

func (s *Server) listTags(_ context.Context, c *call, in *sdk.ListTagsInput) (*sdk.ListTagsOutput, error) {
	f, err := s.taggable(c, in.Resource)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTagsOutput{Tags: map[string]string{}}
	if f.Tags != nil {
		out.Tags = f.Tags
	}
	return out, nil
}
