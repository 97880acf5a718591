package apiserver

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// timeFormat is how the API writes LastModified.
const timeFormat = "2006-01-02T15:04:05.000-0700"

// placeholderVPC is the VpcId shown for a VpcConfig: Berth keeps the setting and has no VPCs.
const placeholderVPC = "vpc-00000000"

// describe shows a version as GetFunctionConfiguration does. arn is the ARN that the caller asked for.
func (s *Server) describe(v *catalog.Version, arn string) *types.FunctionConfiguration {
	out := listed(v, arn)
	out.State = types.State(v.State)
	out.StateReason = optional(v.StateReason)
	out.StateReasonCode = types.StateReasonCode(v.StateReasonCode)
	out.LastUpdateStatus = types.LastUpdateStatus(v.Update)
	out.LastUpdateStatusReason = optional(v.UpdateReason)
	out.LastUpdateStatusReasonCode = types.LastUpdateStatusReasonCode(v.UpdateCode)
	if id := s.runtimeNow(v); id != "" {
		out.RuntimeVersionConfig = &types.RuntimeVersionConfig{RuntimeVersionArn: aws.String(id.ARN(v.Region)), Error: s.runtimePin(v)}
	}
	return out
}

// listed shows a version as lists do: without its states and its runtime's version.
func listed(v *catalog.Version, arn string) *types.FunctionConfiguration {
	out := &types.FunctionConfiguration{
		Architectures:    []types.Architecture{types.Architecture(v.Architecture)},
		CodeSha256:       aws.String(v.CodeSHA256),
		CodeSize:         v.CodeSize,
		Description:      aws.String(v.Description),
		EphemeralStorage: &types.EphemeralStorage{Size: aws.Int32(int32(v.EphemeralMB))},
		FunctionArn:      aws.String(arn),
		FunctionName:     aws.String(v.Function),
		Handler:          optional(v.Handler),
		KMSKeyArn:        optional(v.KMSKey),
		LastModified:     aws.String(v.Modified.UTC().Format(timeFormat)),
		LoggingConfig:    describeLogging(v.Logging),
		MemorySize:       aws.Int32(int32(v.MemoryMB)),
		PackageType:      types.PackageTypeZip,
		RevisionId:       aws.String(v.RevisionID),
		Role:             aws.String(v.Role),
		Runtime:          types.Runtime(v.Runtime),
		SnapStart: &types.SnapStartResponse{
			ApplyOn: types.SnapStartApplyOn(v.SnapStart), OptimizationStatus: types.SnapStartOptimizationStatusOff},
		TenancyConfig: describeTenancy(v),
		Timeout:       aws.Int32(int32(v.Timeout / time.Second)),
		TracingConfig: &types.TracingConfigResponse{Mode: types.TracingMode(v.Tracing)},
		Version:       aws.String(v.Number),
	}
	for _, l := range v.Attached {
		out.Layers = append(out.Layers, types.Layer{Arn: aws.String(l.ARN), CodeSize: l.Size})
	}
	if v.Env != nil {
		out.Environment = &types.EnvironmentResponse{Variables: v.Env}
	}
	if v.DeadLetter != nil {
		out.DeadLetterConfig = &types.DeadLetterConfig{TargetArn: v.DeadLetter}
	}
	if v.VPC != nil {
		out.VpcConfig = describeVPC(v.VPC)
	}
	if v.Image != nil {
		out.PackageType, out.ImageConfigResponse = types.PackageTypeImage, describeImage(v.Image)
	}
	return out
}

func describeLogging(l lambda.Logging) *types.LoggingConfig {
	return &types.LoggingConfig{
		LogFormat:           types.LogFormat(l.Format),
		LogGroup:            aws.String(l.Group),
		ApplicationLogLevel: types.ApplicationLogLevel(l.ApplicationLevel),
		SystemLogLevel:      types.SystemLogLevel(l.SystemLevel),
	}
}

func describeVPC(v *catalog.VPC) *types.VpcConfigResponse {
	out := &types.VpcConfigResponse{
		Ipv6AllowedForDualStack: aws.Bool(v.IPv6),
		SecurityGroupIds:        append([]string{}, v.SecurityGroups...), // empty lists are shown
		SubnetIds:               append([]string{}, v.Subnets...),
		VpcId:                   aws.String(""),
	}
	if len(v.Subnets) > 0 {
		out.VpcId = aws.String(placeholderVPC)
	}
	return out
}

func describeAlias(a *catalog.Alias, arn string) *types.AliasConfiguration {
	out := &types.AliasConfiguration{
		AliasArn:        aws.String(arn),
		Description:     aws.String(a.Description),
		FunctionVersion: aws.String(a.Version),
		Name:            aws.String(a.Name),
		RevisionId:      aws.String(a.RevisionID),
	}
	if len(a.Weights) > 0 {
		out.RoutingConfig = &types.AliasRoutingConfiguration{AdditionalVersionWeights: a.Weights}
	}
	return out
}

// optional returns nil for "": members without a value are absent.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
