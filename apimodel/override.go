package apimodel

// override replaces what the published model says of a shape by what the service itself says of it.
type override struct {
	pattern   string   // "" keeps the model's
	also      string   // a pattern of Berth's own that is accepted too, and not shown in messages
	enum      []string // nil keeps the model's; for another order or another set
	hasLength bool     // min and max hold
	min, max  float64
	nullable  bool // messages about it as an element do not say "Member must not be null"
}

// overrides, by shape. Each entry names the recording that shows it; the sets of runtimes are of January 2026.
var overrides = map[string]override{
	// test_layer_function_exceptions, test_layer_exceptions
	"LayerVersionArn": {
		pattern: `(arn:(aws[a-zA-Z-]*)?:lambda:` + modelRegion + `:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+)|` +
			`(arn:[a-zA-Z0-9-]+:lambda:::awslayer:[a-zA-Z0-9-_]+)`,
		hasLength: true, min: 1, max: 2048,
	},
	// test_tag_exceptions
	"TaggableResource": {
		pattern: `arn:(aws[a-zA-Z-]*):lambda:` + modelRegion + `:\d{12}:(function:[a-zA-Z0-9-_]+(:(\$LATEST|[a-zA-Z0-9-_]+))?|` +
			`layer:([a-zA-Z0-9-_]+)|code-signing-config:csc-[a-z0-9]{17}|event-source-mapping:[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-` +
			`[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|capacity-provider:[a-zA-Z0-9-_]+)`,
	},
	// test_invalid_vpc_config_security_group, test_invalid_vpc_config_subnet
	"SecurityGroupId": {pattern: `sg-[0-9a-zA-Z]*`, hasLength: true, min: 0, max: 1024, nullable: true},
	"SubnetId":        {pattern: `subnet-[0-9a-z]*`, hasLength: true, min: 0, max: 1024, nullable: true},
	// The values' answer: https://github.com/cloud-custodian/cloud-custodian/issues/2520; the keys' limits: TagResource of the same path in
	// docs.aws.amazon.com/lambda/latest/microvm-api
	"TagKey":   {pattern: tagPattern, hasLength: true, min: 1, max: 128, nullable: true},
	"TagValue": {pattern: tagPattern, hasLength: true, min: 0, max: 256, nullable: true},
	// Berth's own: subjects of the engine
	"DestinationArn": {also: `arn:berth:nats:::.+`},
	// https://github.com/klothoplatform/klotho/issues/317
	"EnvironmentVariableName": {nullable: true},
	// test_create_event_source_validation
	"EventSourcePosition": {enum: []string{"LATEST", "AT_TIMESTAMP", "TRIM_HORIZON"}},
	// test_layer_exceptions: the set that lists of layers may be filtered by
	"Runtime": {enum: []string{
		"ruby3.5", "ruby2.6", "dotnetcore1.0", "python3.7", "nodejs8.10", "nasa", "ruby2.7", "python2.7-greengrass",
		"dotnetcore2.0", "python3.8", "java21", "dotnet6", "dotnetcore2.1", "python3.9", "java11", "nodejs6.10", "provided",
		"dotnetcore3.1", "dotnet8", "java25", "java17", "nodejs", "nodejs4.3", "java8.al2", "go1.x", "dotnet10", "nodejs20.x",
		"go1.9", "byol", "nodejs10.x", "provided.al2023", "nodejs22.x", "python3.10", "java8", "nodejs12.x", "python3.11",
		"nodejs24.x", "nodejs8.x", "python3.12", "nodejs14.x", "nodejs8.9", "nodejs26.x", "python3.13", "python3.14",
		"nodejs16.x", "python3.15", "provided.al2", "nodejs4.3-edge", "nodejs18.x", "ruby3.2", "python3.4", "ruby3.3",
		"ruby3.4", "ruby2.5", "python3.6", "python2.7",
	}},
}

const tagPattern = `^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`

// runtimes are those that a function may be made of, in the order in which messages show them
// (test_create_lambda_exceptions, test_layer_exceptions).
var runtimes = []string{
	"nodejs20.x", "python3.14", "provided.al2023", "python3.12", "python3.13", "nodejs24.x", "nodejs22.x", "java25",
	"python3.10", "python3.11", "java21", "ruby3.3", "ruby3.4", "ruby3.2", "python3.8", "python3.9", "java17", "nodejs16.x",
	"dotnet10", "dotnet8", "java11", "dotnet6", "nodejs18.x", "provided.al2", "java8.al2",
}

// maxFunctionName is the longest function name; the model's own limit counts the characters of an ARN.
const maxFunctionName = 64
