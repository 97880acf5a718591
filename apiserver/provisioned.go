package apiserver

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// initFailure is the StatusReason of a function whose environments fail to initialise (recorded 17-02-2026).
const initFailure = "FUNCTION_ERROR_INIT_FAILURE"

// What is said of $LATEST. Texts validated by test_provisioned_concurrency_exceptions.
const (
	unpublishedPut   = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
	unpublishedOther = "The function resource provided must be an alias or a published version."
)

// provisionable reads the version or alias that a request is about; unpublished is what is wrong with $LATEST.
func (s *Server) provisionable(c *call, name, qualifier *string, unpublished string) (catalog.ID, string, error) {
	ref, err := s.ref(c, name, qualifier)
	if err != nil {
		return catalog.ID{}, "", err
	}
	if ref.Qualifier == "" || ref.Qualifier == lambda.Latest {
		return catalog.ID{}, "", lambda.Errorf(lambda.InvalidParameterValue, "%s", unpublished)
	}
	return idOf(ref), ref.Qualifier, nil
}

func (s *Server) putProvisionedConcurrency(ctx context.Context, c *call, in *sdk.PutProvisionedConcurrencyConfigInput) (*sdk.PutProvisionedConcurrencyConfigOutput, error) {
	id, qualifier, err := s.provisionable(c, in.FunctionName, in.Qualifier, unpublishedPut)
	if err != nil {
		return nil, err
	}
	p, err := s.cfg.Catalog.Provision(ctx, id, qualifier, int(aws.ToInt32(in.ProvisionedConcurrentExecutions)))
	if err != nil {
		return nil, err
	}
	item := s.provisionStatus(id, p)
	return &sdk.PutProvisionedConcurrencyConfigOutput{
		AllocatedProvisionedConcurrentExecutions: item.AllocatedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: item.AvailableProvisionedConcurrentExecutions,
		LastModified:                             item.LastModified,
		RequestedProvisionedConcurrentExecutions: in.ProvisionedConcurrentExecutions,
		Status:                                   types.ProvisionedConcurrencyStatusEnumInProgress,
	}, nil
}

// modified has no milliseconds, unlike other times of the API (API reference, examples of PutProvisionedConcurrencyConfig).
func modified(p *catalog.Provisioned) *string {
	return aws.String(p.Modified.UTC().Format("2006-01-02T15:04:05-0700"))
}

// provisionStatus is what Get and List say of one provisioned concurrency.
func (s *Server) provisionStatus(id catalog.ID, p *catalog.Provisioned) types.ProvisionedConcurrencyConfigListItem {
	var state ProvisionState
	if all, ok := s.cfg.Catalog.ProvisionOf(id, p.Qualifier); ok && s.cfg.Provisioned != nil {
		state = s.cfg.Provisioned(all)
	}
	there := aws.Int32(int32(min(state.Allocated, p.Count)))
	item := types.ProvisionedConcurrencyConfigListItem{
		AllocatedProvisionedConcurrentExecutions: there,
		AvailableProvisionedConcurrentExecutions: there,
		LastModified:                             modified(p),
		RequestedProvisionedConcurrentExecutions: aws.Int32(int32(p.Count)),
		Status:                                   types.ProvisionedConcurrencyStatusEnumInProgress,
	}
	switch {
	case state.Ready:
		item.Status = types.ProvisionedConcurrencyStatusEnumReady
	case state.Failed:
		item.Status, item.StatusReason = types.ProvisionedConcurrencyStatusEnumFailed, aws.String(initFailure)
	}
	return item
}

func (s *Server) getProvisionedConcurrency(_ context.Context, c *call, in *sdk.GetProvisionedConcurrencyConfigInput) (*sdk.GetProvisionedConcurrencyConfigOutput, error) {
	id, qualifier, err := s.provisionable(c, in.FunctionName, in.Qualifier, unpublishedOther)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.Catalog.CheckQualifier(id, qualifier); err != nil {
		return nil, err
	}
	p, ok := s.cfg.Catalog.Provisioned(id, qualifier)
	if !ok {
		return nil, lambda.Errorf(lambda.ProvisionedMissing, "No Provisioned Concurrency Config found for this function")
	}
	item := s.provisionStatus(id, p)
	return &sdk.GetProvisionedConcurrencyConfigOutput{
		AllocatedProvisionedConcurrentExecutions: item.AllocatedProvisionedConcurrentExecutions,
		AvailableProvisionedConcurrentExecutions: item.AvailableProvisionedConcurrentExecutions,
		LastModified:                             item.LastModified,
		RequestedProvisionedConcurrentExecutions: item.RequestedProvisionedConcurrentExecutions,
		Status:                                   item.Status,
		StatusReason:                             item.StatusReason,
	}, nil
}

func (s *Server) listProvisionedConcurrency(_ context.Context, c *call, in *sdk.ListProvisionedConcurrencyConfigsInput) (*sdk.ListProvisionedConcurrencyConfigsOutput, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.ProvisionedOf(f.ID(), after, pageSize(in.MaxItems))
	out := &sdk.ListProvisionedConcurrencyConfigsOutput{
		NextMarker: markerOf(next), ProvisionedConcurrencyConfigs: []types.ProvisionedConcurrencyConfigListItem{}}
	for _, p := range list {
		item := s.provisionStatus(f.ID(), p)
		item.FunctionArn = aws.String(f.ARN() + ":" + p.Qualifier)
		out.ProvisionedConcurrencyConfigs = append(out.ProvisionedConcurrencyConfigs, item)
	}
	return out, nil
}

func (s *Server) deleteProvisionedConcurrency(ctx context.Context, c *call, in *sdk.DeleteProvisionedConcurrencyConfigInput) (*none, error) {
	id, qualifier, err := s.provisionable(c, in.FunctionName, in.Qualifier, unpublishedOther)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.Unprovision(ctx, id, qualifier)
}
