package apiserver

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// Defaults and limits of a function's configuration (developer guide, recordings).
const (
	defaultMemoryMB    = 128
	maxMemoryMB        = 10240 // the model allows more, for managed instances
	defaultTimeout     = 3     // s
	maxTimeout         = 900   // s
	defaultEphemeralMB = 512
	maxEnvironment     = 4096 // bytes of the variables as JSON
	logGroupPrefix     = "/aws/lambda/"
)

// settings are what CreateFunction and UpdateFunctionConfiguration have in common; nil and "" leave a setting alone.
type settings struct {
	dead        *types.DeadLetterConfig
	description *string
	environment *types.Environment
	ephemeral   *types.EphemeralStorage
	handler     *string
	kmsKey      *string
	layers      []string // see Server.attach
	logging     *types.LoggingConfig
	memory      *int32
	role        *string
	runtime     types.Runtime
	snapStart   *types.SnapStart
	timeout     *int32
	tracing     *types.TracingConfig
	vpc         *types.VpcConfig
}

func createSettings(in *sdk.CreateFunctionInput) settings {
	return settings{in.DeadLetterConfig, in.Description, in.Environment, in.EphemeralStorage, in.Handler, in.KMSKeyArn,
		in.Layers, in.LoggingConfig, in.MemorySize, in.Role, in.Runtime, in.SnapStart, in.Timeout, in.TracingConfig, in.VpcConfig}
}

func updateSettings(in *sdk.UpdateFunctionConfigurationInput) settings {
	return settings{in.DeadLetterConfig, in.Description, in.Environment, in.EphemeralStorage, in.Handler, in.KMSKeyArn,
		in.Layers, in.LoggingConfig, in.MemorySize, in.Role, in.Runtime, in.SnapStart, in.Timeout, in.TracingConfig, in.VpcConfig}
}

// defaults returns a version with the settings that a function has when nothing else is said.
func defaults(id catalog.ID) catalog.Version {
	return catalog.Version{
		Version: lambda.Version{
			Account: id.Account, Function: id.Name,
			MemoryMB: defaultMemoryMB, Timeout: defaultTimeout * time.Second, EphemeralMB: defaultEphemeralMB,
			Logging: lambda.Logging{Format: lambda.Text, Group: logGroupPrefix + id.Name},
		},
		Architecture: string(types.ArchitectureX8664),
		Tracing:      string(types.TracingModePassThrough),
		SnapStart:    string(types.SnapStartApplyOnNone),
	}
}

// check refuses what the model allows and the service, or Berth, does not.
func (s *settings) check() error {
	switch {
	case s.memory != nil && *s.memory > maxMemoryMB:
		return tooLarge("memorySize", *s.memory, maxMemoryMB)
	case s.timeout != nil && *s.timeout > maxTimeout:
		return tooLarge("timeout", *s.timeout, maxTimeout)
	case checkDeadLetter(s.dead) != nil:
		return checkDeadLetter(s.dead)
	}
	if s.runtime != "" && !slices.Contains(runtimes, s.runtime) { // the model knows it: it is one of the past
		return invalid("The runtime parameter of %s is no longer supported for creating or updating AWS Lambda functions. "+
			"We recommend you use a supported runtime while creating or updating functions.", s.runtime)
	}
	if l := s.logging; l != nil && l.LogFormat == types.LogFormatText && (l.ApplicationLogLevel != "" || l.SystemLogLevel != "") {
		// Text as users report it.
		return invalid(`LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from your request or change the LogFormat to "JSON" and try again.`)
	}
	if s.environment != nil {
		return checkEnvironment(s.environment.Variables)
	}
	return nil
}

func invalid(format string, args ...any) *lambda.Error {
	return lambda.Errorf(lambda.InvalidParameterValue, format, args...)
}

func tooLarge(member string, value, limit int32) error {
	return lambda.Errorf(lambda.Validation, "1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: "+
		"Member must have value less than or equal to %d", value, member, limit)
}

// runtimes are those that functions may be made of or changed to (recorded 12-01-2026).
var runtimes = []types.Runtime{
	"nodejs16.x", "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x",
	"python3.8", "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14",
	"java8.al2", "java11", "java17", "java21", "java25", "dotnet6", "dotnet8", "dotnet10",
	"ruby3.2", "ruby3.3", "ruby3.4", "provided.al2", "provided.al2023",
}

// reservedVariables are set by Lambda itself (developer guide, "Defined runtime environment variables").
var reservedVariables = []string{
	"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_NAME",
	"AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
	"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID",
	"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
}

// checkEnvironment refuses reserved names and more than 4 KB.
func checkEnvironment(variables map[string]string) error {
	var reserved []string
	names := make([]string, 0, len(variables))
	for name := range variables {
		names = append(names, name)
		if slices.Contains(reservedVariables, name) {
			reserved = append(reserved, name)
		}
	}
	if len(reserved) > 0 {
		slices.Sort(reserved)
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have "+
			"provided contains reserved keys that are currently not supported for modification. Reserved keys used in this "+
			"request: %s", strings.Join(reserved, ", "))
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(bucket(a, len(names)), bucket(b, len(names))), strings.Compare(a, b))
	})
	var text bytes.Buffer
	text.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(quotedJSON(name) + ":" + quotedJSON(variables[name]))
	}
	text.WriteByte('}')
	if text.Len() > maxEnvironment {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have "+
			"provided exceeded the 4KB limit. String measured: %s", text.String())
	}
	return nil
}

// bucket is a key's place in a Java HashMap of n entries. The recorded message quotes the variables in that order.
func bucket(key string, n int) uint32 {
	var hash uint32
	for _, c := range utf16.Encode([]rune(key)) {
		hash = 31*hash + uint32(c)
	}
	size := uint32(16)
	for uint32(n) > size/4*3 { // the load factor
		size *= 2
	}
	return (hash ^ hash>>16) & (size - 1)
}

// apply writes the settings that are there into a version.
func (s *settings) apply(v *catalog.Version) {
	set(&v.Description, s.description)
	set(&v.Handler, s.handler)
	set(&v.KMSKey, s.kmsKey)
	set(&v.Role, s.role)
	if s.runtime != "" {
		v.Runtime = string(s.runtime)
	}
	if s.memory != nil {
		v.MemoryMB = int(*s.memory)
	}
	if s.timeout != nil {
		v.Timeout = time.Duration(*s.timeout) * time.Second
	}
	if s.ephemeral != nil && s.ephemeral.Size != nil {
		v.EphemeralMB = int(*s.ephemeral.Size)
	}
	if s.environment != nil {
		if v.Env = s.environment.Variables; v.Env == nil {
			v.Env = map[string]string{}
		}
	}
	if s.dead != nil {
		if v.DeadLetter = s.dead.TargetArn; aws.ToString(v.DeadLetter) == "" {
			v.DeadLetter = nil
		}
	}
	if s.tracing != nil && s.tracing.Mode != "" {
		v.Tracing = string(s.tracing.Mode)
	}
	if s.snapStart != nil && s.snapStart.ApplyOn != "" {
		v.SnapStart = string(s.snapStart.ApplyOn)
	}
	if s.vpc != nil {
		v.VPC = &catalog.VPC{Subnets: s.vpc.SubnetIds, SecurityGroups: s.vpc.SecurityGroupIds, IPv6: aws.ToBool(s.vpc.Ipv6AllowedForDualStack)}
	}
	if s.logging != nil {
		applyLogging(&v.Logging, s.logging)
	}
}

func set(to, from *string) {
	if from != nil {
		*to = *from
	}
}

// applyLogging changes a part of the logging settings. The change to JSON sets the levels to INFO, that to Text removes
// them.
func applyLogging(l *lambda.Logging, in *types.LoggingConfig) {
	if in.LogGroup != nil {
		l.Group = *in.LogGroup
	}
	if f := lambda.LogFormat(in.LogFormat); f != "" {
		if f == lambda.JSON && l.Format != lambda.JSON {
			l.ApplicationLevel, l.SystemLevel = "INFO", "INFO"
		}
		l.Format = f
	}
	if in.ApplicationLogLevel != "" {
		l.ApplicationLevel = string(in.ApplicationLogLevel)
	}
	if in.SystemLogLevel != "" {
		l.SystemLevel = string(in.SystemLogLevel)
	}
	if l.Format == lambda.Text {
		l.ApplicationLevel, l.SystemLevel = "", ""
	}
}
