package apiserver

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
)

// There are no capacity providers (managed instances) here: lists are empty, none is ever found, and none can be made.

func (s *Server) createCapacityProvider(context.Context, *call, *sdk.CreateCapacityProviderInput) (*sdk.CreateCapacityProviderOutput, error) {
	return nil, invalid("Capacity providers are not supported by this server: its workers run all functions.")
}

func (s *Server) listCapacityProviders(_ context.Context, _ *call, in *sdk.ListCapacityProvidersInput) (*sdk.ListCapacityProvidersOutput, error) {
	_, err := readMarker(in.Marker)
	return &sdk.ListCapacityProvidersOutput{CapacityProviders: []types.CapacityProvider{}}, err
}

// noCapacityProvider says that one does not exist. Text recorded.
func (s *Server) noCapacityProvider(c *call, name *string) error {
	arn := aws.ToString(name)
	if !strings.HasPrefix(arn, "arn:") {
		arn = "arn:aws:lambda:" + s.cfg.Catalog.Region() + ":" + string(c.account) + ":capacity-provider:" + arn
	}
	return lambda.Errorf(lambda.ResourceNotFound, "Capacity provider not found: %s", arn)
}

func (s *Server) getCapacityProvider(_ context.Context, c *call, in *sdk.GetCapacityProviderInput) (*sdk.GetCapacityProviderOutput, error) {
	return nil, s.noCapacityProvider(c, in.CapacityProviderName)
}

func (s *Server) updateCapacityProvider(_ context.Context, c *call, in *sdk.UpdateCapacityProviderInput) (*sdk.UpdateCapacityProviderOutput, error) {
	return nil, s.noCapacityProvider(c, in.CapacityProviderName)
}

func (s *Server) deleteCapacityProvider(_ context.Context, c *call, in *sdk.DeleteCapacityProviderInput) (*sdk.DeleteCapacityProviderOutput, error) {
	return nil, s.noCapacityProvider(c, in.CapacityProviderName)
}

func (s *Server) listCapacityProviderVersions(_ context.Context, c *call, in *sdk.ListFunctionVersionsByCapacityProviderInput) (*sdk.ListFunctionVersionsByCapacityProviderOutput, error) {
	return nil, s.noCapacityProvider(c, in.CapacityProviderName)
}

func (s *Server) getFunctionScaling(_ context.Context, c *call, in *sdk.GetFunctionScalingConfigInput) (*sdk.GetFunctionScalingConfigOutput, error) {
	return nil, s.noScaling(c, in.FunctionName, in.Qualifier)
}

func (s *Server) putFunctionScaling(_ context.Context, c *call, in *sdk.PutFunctionScalingConfigInput) (*sdk.PutFunctionScalingConfigOutput, error) {
	return nil, s.noScaling(c, in.FunctionName, in.Qualifier)
}

// noScaling says that a function, if there is one, has no capacity provider to scale in.
func (s *Server) noScaling(c *call, name, qualifier *string) error {
	_, v, _, err := s.find(c, name, qualifier)
	if err != nil {
		return err
	}
	return invalid("Scaling is configured for functions with a capacity provider only; %s has none.", v.ARN())
}
