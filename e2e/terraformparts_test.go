package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// live is the alias of the stack.
var live = aws.String("live")

func (s *stack) alias() resource {
	return resource{name: "aws_lambda_alias", want: map[string]any{"name": "live"},
		apply: func(ctx context.Context) error {
			version := aws.String(s.made["version"])
			if !s.first {
				_, err := s.c.UpdateAlias(ctx, &lambda.UpdateAliasInput{FunctionName: s.fn, Name: live, FunctionVersion: version, Description: aws.String(""), RoutingConfig: &types.AliasRoutingConfiguration{}})
				return err
			}
			_, err := s.c.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: s.fn, Name: live, FunctionVersion: version, Description: aws.String(""), RoutingConfig: &types.AliasRoutingConfiguration{}})
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := s.c.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: s.fn, Name: live})
			if err != nil {
				return nil, err
			}
			if *out.FunctionVersion != s.made["version"] {
				s.Errorf("the alias is at version %s, want %s", *out.FunctionVersion, s.made["version"])
			}
			return map[string]any{"name": out.Name, "arn": out.AliasArn, "version": out.FunctionVersion, "description": out.Description, "routing": out.RoutingConfig}, nil
		},
		destroy: func(ctx context.Context) error {
			_, err := s.c.DeleteAlias(ctx, &lambda.DeleteAliasInput{FunctionName: s.fn, Name: live})
			return err
		},
	}
}

// statement finds one statement of the alias' policy, as the provider does.
func (s *stack) statement(ctx context.Context, sid string) (map[string]any, error) {
	out, err := s.c.GetPolicy(ctx, &lambda.GetPolicyInput{FunctionName: s.fn, Qualifier: live})
	if err != nil {
		return nil, err
	}
	var policy struct{ Statement []map[string]any }
	if err := json.Unmarshal([]byte(*out.Policy), &policy); err != nil {
		return nil, err
	}
	for _, statement := range policy.Statement {
		if statement["Sid"] == sid {
			return statement, nil
		}
	}
	return nil, &types.ResourceNotFoundException{Message: aws.String("no such statement")}
}

func (s *stack) permission() resource {
	return resource{name: "aws_lambda_permission",
		want: map[string]any{"Action": "lambda:InvokeFunction", "Principal": map[string]any{"Service": "events.amazonaws.com"},
			"Condition": map[string]any{"ArnLike": map[string]any{"AWS:SourceArn": "arn:aws:events:us-east-1:000000000001:rule/tick"}, "StringEquals": map[string]any{"AWS:SourceAccount": "000000000001"}}},
		apply: func(ctx context.Context) error {
			if !s.first {
				return nil
			}
			_, err := s.c.AddPermission(ctx, &lambda.AddPermissionInput{FunctionName: s.fn, Qualifier: live, StatementId: aws.String("tick"), Action: aws.String("lambda:InvokeFunction"),
				Principal: aws.String("events.amazonaws.com"), SourceArn: aws.String("arn:aws:events:us-east-1:000000000001:rule/tick"), SourceAccount: aws.String("000000000001")})
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) { return s.statement(ctx, "tick") },
		destroy: func(ctx context.Context) error {
			_, err := s.c.RemovePermission(ctx, &lambda.RemovePermissionInput{FunctionName: s.fn, Qualifier: live, StatementId: aws.String("tick")})
			return err
		},
	}
}

func (s *stack) url(c config) resource {
	cors := &types.Cors{AllowOrigins: []string{c.origin}, AllowMethods: []string{"GET", "POST"}, AllowHeaders: []string{"x-token"}, MaxAge: aws.Int32(60)}
	return resource{name: "aws_lambda_function_url",
		want: map[string]any{"auth": "NONE", "mode": "BUFFERED", "cors": map[string]any{"AllowOrigins": []any{c.origin}, "AllowMethods": []any{"GET", "POST"}, "AllowHeaders": []any{"x-token"}, "MaxAge": 60,
			"AllowCredentials": nil, "ExposeHeaders": nil}},
		apply: func(ctx context.Context) error {
			if !s.first {
				_, err := s.c.UpdateFunctionUrlConfig(ctx, &lambda.UpdateFunctionUrlConfigInput{FunctionName: s.fn, Qualifier: live, AuthType: types.FunctionUrlAuthTypeNone, Cors: cors})
				return err
			}
			if _, err := s.c.CreateFunctionUrlConfig(ctx, &lambda.CreateFunctionUrlConfigInput{FunctionName: s.fn, Qualifier: live, AuthType: types.FunctionUrlAuthTypeNone, Cors: cors, InvokeMode: types.InvokeModeBuffered}); err != nil {
				return err
			}
			_, err := s.c.AddPermission(ctx, &lambda.AddPermissionInput{FunctionName: s.fn, Qualifier: live, StatementId: aws.String("FunctionURLAllowPublicAccess"), Action: aws.String("lambda:InvokeFunctionUrl"),
				Principal: aws.String("*"), FunctionUrlAuthType: types.FunctionUrlAuthTypeNone})
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := s.c.GetFunctionUrlConfig(ctx, &lambda.GetFunctionUrlConfigInput{FunctionName: s.fn, Qualifier: live})
			if err != nil {
				return nil, err
			}
			return map[string]any{"auth": out.AuthType, "mode": out.InvokeMode, "cors": out.Cors, "url": out.FunctionUrl, "arn": out.FunctionArn, "created": out.CreationTime}, nil
		},
		destroy: func(ctx context.Context) error {
			_, err := s.c.DeleteFunctionUrlConfig(ctx, &lambda.DeleteFunctionUrlConfigInput{FunctionName: s.fn, Qualifier: live})
			return err
		},
	}
}

func (s *stack) invokeConfig(c config) resource {
	return resource{name: "aws_lambda_function_event_invoke_config", want: map[string]any{"retries": c.retries, "age": 300},
		apply: func(ctx context.Context) error { // the provider puts the whole of it each time
			_, err := s.c.PutFunctionEventInvokeConfig(ctx, &lambda.PutFunctionEventInvokeConfigInput{FunctionName: s.fn, Qualifier: live, MaximumRetryAttempts: &c.retries, MaximumEventAgeInSeconds: aws.Int32(300)})
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := s.c.GetFunctionEventInvokeConfig(ctx, &lambda.GetFunctionEventInvokeConfigInput{FunctionName: s.fn, Qualifier: live})
			if err != nil {
				return nil, err
			}
			return map[string]any{"retries": out.MaximumRetryAttempts, "age": out.MaximumEventAgeInSeconds, "arn": out.FunctionArn, "destinations": out.DestinationConfig}, nil
		},
		destroy: func(ctx context.Context) error {
			_, err := s.c.DeleteFunctionEventInvokeConfig(ctx, &lambda.DeleteFunctionEventInvokeConfigInput{FunctionName: s.fn, Qualifier: live})
			return err
		},
	}
}

func (s *stack) provisioned(c config) resource {
	read := func(ctx context.Context) (*lambda.GetProvisionedConcurrencyConfigOutput, error) {
		return s.c.GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: s.fn, Qualifier: live})
	}
	return resource{name: "aws_lambda_provisioned_concurrency_config", want: map[string]any{"requested": c.provisioned, "status": "READY"},
		apply: func(ctx context.Context) error {
			_, err := s.c.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{FunctionName: s.fn, Qualifier: live, ProvisionedConcurrentExecutions: &c.provisioned})
			for deadline := time.Now().Add(readyWithin); err == nil; time.Sleep(20 * time.Millisecond) {
				out, gone := read(ctx)
				switch {
				case gone != nil:
					return gone
				case out.Status == types.ProvisionedConcurrencyStatusEnumReady:
					return nil
				case out.Status == types.ProvisionedConcurrencyStatusEnumFailed || time.Now().After(deadline):
					return errors.New(string(out.Status) + ": " + aws.ToString(out.StatusReason))
				}
			}
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := read(ctx)
			if err != nil {
				return nil, err
			}
			return map[string]any{"requested": out.RequestedProvisionedConcurrentExecutions, "status": out.Status}, nil
		},
		destroy: func(ctx context.Context) error {
			_, err := s.c.DeleteProvisionedConcurrencyConfig(ctx, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: s.fn, Qualifier: live})
			return err
		},
	}
}

func (s *stack) mapping(c config) resource {
	return resource{name: "aws_lambda_event_source_mapping", want: map[string]any{"batch": c.batch, "window": 1, "state": "Enabled", "types": []any{"ReportBatchItemFailures"}, "max": map[string]any{"MaximumConcurrency": 5}},
		apply: func(ctx context.Context) error {
			if !s.first {
				_, err := s.c.UpdateEventSourceMapping(ctx, &lambda.UpdateEventSourceMappingInput{UUID: aws.String(s.made["mapping"]), BatchSize: &c.batch})
				return err
			}
			out, err := s.c.CreateEventSourceMapping(ctx, &lambda.CreateEventSourceMappingInput{FunctionName: s.fn, EventSourceArn: aws.String("arn:aws:sqs:us-east-1:000000000001:tf-jobs"), BatchSize: &c.batch,
				MaximumBatchingWindowInSeconds: aws.Int32(1), FunctionResponseTypes: []types.FunctionResponseType{types.FunctionResponseTypeReportBatchItemFailures},
				ScalingConfig: &types.ScalingConfig{MaximumConcurrency: aws.Int32(5)}, Tags: map[string]string{"a": "b"}})
			if err == nil {
				s.made["mapping"] = *out.UUID
			}
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := s.c.GetEventSourceMapping(ctx, &lambda.GetEventSourceMappingInput{UUID: aws.String(s.made["mapping"])})
			if err != nil {
				return nil, err
			}
			tags, err := s.c.ListTags(ctx, &lambda.ListTagsInput{Resource: out.EventSourceMappingArn})
			if err != nil {
				return nil, err
			}
			return map[string]any{"batch": out.BatchSize, "window": out.MaximumBatchingWindowInSeconds, "state": out.State, "types": out.FunctionResponseTypes, "max": out.ScalingConfig, "arn": out.FunctionArn,
				"source": out.EventSourceArn, "tags": tags.Tags, "destinations": out.DestinationConfig, "filter": out.FilterCriteria}, nil
		},
		destroy: func(ctx context.Context) error {
			_, err := s.c.DeleteEventSourceMapping(ctx, &lambda.DeleteEventSourceMappingInput{UUID: aws.String(s.made["mapping"])})
			return err
		},
	}
}

func (s *stack) recursion() resource {
	return resource{name: "aws_lambda_function_recursion_config", want: map[string]any{"loop": "Allow"},
		apply: func(ctx context.Context) error {
			_, err := s.c.PutFunctionRecursionConfig(ctx, &lambda.PutFunctionRecursionConfigInput{FunctionName: s.fn, RecursiveLoop: types.RecursiveLoopAllow})
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := s.c.GetFunctionRecursionConfig(ctx, &lambda.GetFunctionRecursionConfigInput{FunctionName: s.fn})
			if err != nil {
				return nil, err
			}
			return map[string]any{"loop": out.RecursiveLoop}, nil
		},
	}
}

func (s *stack) management() resource {
	return resource{name: "aws_lambda_runtime_management_config", want: map[string]any{"on": "FunctionUpdate"},
		apply: func(ctx context.Context) error {
			_, err := s.c.PutRuntimeManagementConfig(ctx, &lambda.PutRuntimeManagementConfigInput{FunctionName: s.fn, UpdateRuntimeOn: types.UpdateRuntimeOnFunctionUpdate})
			return err
		},
		read: func(ctx context.Context) (map[string]any, error) {
			out, err := s.c.GetRuntimeManagementConfig(ctx, &lambda.GetRuntimeManagementConfigInput{FunctionName: s.fn})
			if err != nil {
				return nil, err
			}
			return map[string]any{"on": out.UpdateRuntimeOn, "arn": out.FunctionArn, "runtime": out.RuntimeVersionArn}, nil
		},
	}
}
