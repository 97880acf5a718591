package apiserver

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/destinations"
	"berth/lambda"
)

// The order of checks and the messages are those of test_lambda_eventinvokeconfig_exceptions (recorded 25-11-2025).

// maxEventConfigs is the largest page of ListFunctionEventInvokeConfigs (API model).
const maxEventConfigs = 50

func (s *Server) putEventConfig(ctx context.Context, c *call, in *sdk.PutFunctionEventInvokeConfigInput) (*types.FunctionEventInvokeConfig, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if err := s.checkEventConfig(ref, in.DestinationConfig, in.MaximumRetryAttempts, in.MaximumEventAgeInSeconds); err != nil {
		return nil, err
	}
	config := catalog.EventConfig{Qualifier: ref.Qualifier}
	editEventConfig(&config, in.DestinationConfig, in.MaximumRetryAttempts, in.MaximumEventAgeInSeconds)
	written, err := s.cfg.Catalog.PutEventConfig(ctx, idOf(ref), config)
	return eventConfigOf(ref, written), err
}

func (s *Server) updateEventConfig(ctx context.Context, c *call, in *sdk.UpdateFunctionEventInvokeConfigInput) (*types.FunctionEventInvokeConfig, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if err := s.checkEventConfig(ref, in.DestinationConfig, in.MaximumRetryAttempts, in.MaximumEventAgeInSeconds); err != nil {
		return nil, err
	}
	written, err := s.cfg.Catalog.UpdateEventConfig(ctx, idOf(ref), ref.Qualifier, func(config *catalog.EventConfig) {
		editEventConfig(config, in.DestinationConfig, in.MaximumRetryAttempts, in.MaximumEventAgeInSeconds)
	})
	return eventConfigOf(ref, written), err
}

// checkEventConfig checks what a request asks for.
func (s *Server) checkEventConfig(ref lambda.Ref, d *types.DestinationConfig, retries, age *int32) error {
	if d == nil && retries == nil && age == nil {
		return invalid("You must specify at least one of error handling or destination setting.")
	}
	if d == nil {
		return nil
	}
	if d.OnSuccess != nil {
		if err := s.checkDestination(ref, d, aws.ToString(d.OnSuccess.Destination)); err != nil {
			return err
		}
	}
	if d.OnFailure != nil {
		return s.checkDestination(ref, d, aws.ToString(d.OnFailure.Destination))
	}
	return nil
}

func (s *Server) checkDestination(ref lambda.Ref, d *types.DestinationConfig, arn string) error {
	if arn == "" {
		return nil
	}
	target, err := destinations.Parse(arn)
	if err != nil {
		return invalid("The provided destination config %s is invalid.", javaString(d))
	}
	if target.Kind != destinations.Lambda {
		return nil
	}
	to, err := lambda.ParseRef(arn, "", ref.Account, ref.Region)
	switch {
	case err != nil || !s.cfg.Catalog.QualifierExists(idOf(to), to.Qualifier):
		return invalid("The destination ARN %s is invalid.", arn)
	case to.Function == ref.Function:
		return invalid("You can't specify the function as a destination for itself.")
	}
	return nil
}

// javaString shows a destination config as the service's messages do.
func javaString(d *types.DestinationConfig) string {
	success, failure := "null", "null"
	if d.OnSuccess != nil {
		success = "OnSuccess(destination=" + aws.ToString(d.OnSuccess.Destination) + ")"
	}
	if d.OnFailure != nil {
		failure = "OnFailure(destination=" + aws.ToString(d.OnFailure.Destination) + ")"
	}
	return "DestinationConfig(onSuccess=" + success + ", onFailure=" + failure + ")"
}

// editEventConfig changes what is given.
func editEventConfig(config *catalog.EventConfig, d *types.DestinationConfig, retries, age *int32) {
	if retries != nil {
		config.Retries = aws.Int(int(*retries))
	}
	if age != nil {
		config.MaxAge = aws.Int(int(*age))
	}
	if d != nil && d.OnSuccess != nil {
		config.OnSuccess = aws.ToString(d.OnSuccess.Destination)
	}
	if d != nil && d.OnFailure != nil {
		config.OnFailure = aws.ToString(d.OnFailure.Destination)
	}
}

func eventConfigOf(ref lambda.Ref, config *catalog.EventConfig) *types.FunctionEventInvokeConfig {
	if config == nil {
		return nil
	}
	ref.Qualifier = config.Qualifier
	out := &types.FunctionEventInvokeConfig{
		FunctionArn:       aws.String(ref.ARN()),
		LastModified:      aws.Time(config.Modified),
		DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{}, OnFailure: &types.OnFailure{}},
	}
	if config.OnSuccess != "" {
		out.DestinationConfig.OnSuccess.Destination = &config.OnSuccess
	}
	if config.OnFailure != "" {
		out.DestinationConfig.OnFailure.Destination = &config.OnFailure
	}
	if config.Retries != nil {
		out.MaximumRetryAttempts = aws.Int32(int32(*config.Retries))
	}
	if config.MaxAge != nil {
		out.MaximumEventAgeInSeconds = aws.Int32(int32(*config.MaxAge))
	}
	return out
}

func (s *Server) getEventConfig(_ context.Context, c *call, in *sdk.GetFunctionEventInvokeConfigInput) (*types.FunctionEventInvokeConfig, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	config, err := s.cfg.Catalog.GetEventConfig(idOf(ref), ref.Qualifier)
	return eventConfigOf(ref, config), err
}

func (s *Server) deleteEventConfig(ctx context.Context, c *call, in *sdk.DeleteFunctionEventInvokeConfigInput) (*none, error) {
	ref, err := s.ref(c, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	return &none{}, s.cfg.Catalog.DeleteEventConfig(ctx, idOf(ref), ref.Qualifier)
}

func (s *Server) listEventConfigs(_ context.Context, c *call, in *sdk.ListFunctionEventInvokeConfigsInput) (*sdk.ListFunctionEventInvokeConfigsOutput, error) {
	ref, err := s.ref(c, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if _, ok := s.cfg.Catalog.Function(idOf(ref)); !ok {
		return nil, lambda.Errorf(lambda.ResourceNotFound, "The function doesn't exist.")
	}
	after, err := readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	list, next := s.cfg.Catalog.EventConfigs(idOf(ref), after, min(pageSize(in.MaxItems), maxEventConfigs))
	out := &sdk.ListFunctionEventInvokeConfigsOutput{NextMarker: markerOf(next), FunctionEventInvokeConfigs: []types.FunctionEventInvokeConfig{}}
	for _, config := range list {
		out.FunctionEventInvokeConfigs = append(out.FunctionEventInvokeConfigs, *eventConfigOf(ref, config))
	}
	return out, nil
}

func (s *Server) getFunctionRecursionConfig(_ context.Context, c *call, in *sdk.GetFunctionRecursionConfigInput) (*sdk.GetFunctionRecursionConfigOutput, error) {
	f, err := s.function(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	return &sdk.GetFunctionRecursionConfigOutput{RecursiveLoop: recursiveLoop(f.Recursive)}, nil
}

func (s *Server) putFunctionRecursionConfig(ctx context.Context, c *call, in *sdk.PutFunctionRecursionConfigInput) (*sdk.PutFunctionRecursionConfigOutput, error) {
	id, err := s.unqualified(c, in.FunctionName)
	if err != nil {
		return nil, err
	}
	allow := in.RecursiveLoop == types.RecursiveLoopAllow
	if err := s.cfg.Catalog.SetRecursive(ctx, id, allow); err != nil {
		return nil, err
	}
	return &sdk.PutFunctionRecursionConfigOutput{RecursiveLoop: recursiveLoop(allow)}, nil
}

func recursiveLoop(allow bool) types.RecursiveLoop {
	if allow {
		return types.RecursiveLoopAllow
	}
	return types.RecursiveLoopTerminate
}

// checkDeadLetter refuses a target that can be no dead-letter queue (developer guide: SQS and SNS). An empty one removes it.
func checkDeadLetter(dead *types.DeadLetterConfig) error {
	arn := ""
	if dead != nil {
		arn = strings.TrimSpace(aws.ToString(dead.TargetArn))
	}
	if arn == "" {
		return nil
	}
	target, err := destinations.Parse(arn)
	if err != nil || target.Kind != destinations.SQS && target.Kind != destinations.SNS {
		return invalid("The provided dead letter config DeadLetterConfig(targetArn=%s) is invalid: expected the ARN of an SQS queue or an SNS topic.", arn)
	}
	return nil
}
