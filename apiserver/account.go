package apiserver

import (
	"context"

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
