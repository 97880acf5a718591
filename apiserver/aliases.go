package apiserver

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

func (s *Server) createAlias(ctx context.Context, c *call, in *sdk.CreateAliasInput) (*types.AliasConfiguration, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	a := catalog.Alias{Name: aws.ToString(in.Name), Version: aws.ToString(in.FunctionVersion), Description: aws.ToString(in.Description)}
	if in.RoutingConfig != nil {
		a.Weights = in.RoutingConfig.AdditionalVersionWeights
	}
	created, err := s.cfg.Catalog.CreateAlias(ctx, idOf(ref), a)
	if err != nil {
		return nil, err
	}
	return describeAlias(created, aliasARN(ref, created)), nil
}

func aliasARN(ref lambda.Ref, a *catalog.Alias) string {
	ref.Qualifier = a.Name
	return ref.ARN()
}

func (s *Server) getAlias(_ context.Context, c *call, in *sdk.GetAliasInput) (*types.AliasConfiguration, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if _, err := s.function(c, in.FunctionName); err != nil {
		return nil, err
	}
	a, ok := s.cfg.Catalog.Alias(idOf(ref), aws.ToString(in.Name))
	if !ok {
		ref.Qualifier = aws.ToString(in.Name)
		return nil, lambda.Errorf(lambda.ResourceNotFound, "Cannot find alias arn: %s", ref.ARN())
	}
	return describeAlias(a, aliasARN(ref, a)), nil
}

func (s *Server) listAliases(_ context.Context, c *call, in *sdk.ListAliasesInput) (*sdk.ListAliasesOutput, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.Aliases(f.ID(), aws.ToString(in.FunctionVersion), after, pageSize(in.MaxItems))
	out := &sdk.ListAliasesOutput{Aliases: []types.AliasConfiguration{}, NextMarker: markerOf(next)}
	for _, a := range list {
		out.Aliases = append(out.Aliases, *describeAlias(a, f.ARN()+":"+a.Name))
	}
	return out, nil
}

func (s *Server) updateAlias(ctx context.Context, c *call, in *sdk.UpdateAliasInput) (*types.AliasConfiguration, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	edit := catalog.AliasEdit{Version: in.FunctionVersion, Description: in.Description}
	if in.RoutingConfig != nil {
		edit.Weights = &in.RoutingConfig.AdditionalVersionWeights
	}
	a, err := s.cfg.Catalog.UpdateAlias(ctx, idOf(ref), aws.ToString(in.Name), aws.ToString(in.RevisionId), edit)
	if err != nil {
		return nil, err
	}
	return describeAlias(a, aliasARN(ref, a)), nil
}

func (s *Server) deleteAlias(ctx context.Context, c *call, in *sdk.DeleteAliasInput) (*none, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.DeleteAlias(ctx, idOf(ref), aws.ToString(in.Name))
}
