package apiserver

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/filter"
	"berth/lambda"
)

// eventSource is where a mapping's events come from.
type eventSource struct {
	service string   // sqs, kinesis, dynamodb, kafka, mq, rds
	names   []string // its ARN, or a self-managed one's servers
	managed bool     // has an ARN
}

// Limits of mappings beside the model's (developer guide).
const (
	plainSQSBatch  = 10 // messages; more need a batching window, and FIFO queues have no more
	minRecordAge   = 60 // s, unless -1: for ever
	bootstrapNames = "KAFKA_BOOTSTRAP_SERVERS"
)

// sourceOf says what a mapping's source is. Texts recorded (test_event_source_mapping_exceptions,
// test_create_event_source_self_managed).
func sourceOf(arn *string, own *types.SelfManagedEventSource, access []types.SourceAccessConfiguration) (*eventSource, error) {
	if own != nil {
		if access == nil {
			return nil, invalid("Required 'sourceAccessConfigurations' parameter is missing.")
		}
		return &eventSource{service: "kafka", names: own.Endpoints[bootstrapNames]}, nil
	}
	parts := strings.SplitN(aws.ToString(arn), ":", 6)
	if len(parts) == 6 {
		switch parts[2] {
		case "sqs", "kinesis", "dynamodb", "kafka", "mq", "rds":
			return &eventSource{service: parts[2], names: []string{*arn}, managed: true}, nil
		}
	}
	return nil, invalid("Unrecognized event source.")
}

func (e *eventSource) stream() bool { return e.service == "kinesis" || e.service == "dynamodb" }

func (e *eventSource) fifo() bool {
	return e.service == "sqs" && strings.HasSuffix(e.names[0], ".fifo")
}

// defaults returns the settings of a new mapping: what the request says, and recorded defaults for the rest.
func (e *eventSource) defaults(in *sdk.CreateEventSourceMappingInput, id string) *types.EventSourceMappingConfiguration {
	set := &types.EventSourceMappingConfiguration{
		AmazonManagedKafkaEventSourceConfig: in.AmazonManagedKafkaEventSourceConfig,
		BatchSize:                           in.BatchSize,
		BisectBatchOnFunctionError:          in.BisectBatchOnFunctionError,
		DestinationConfig:                   in.DestinationConfig,
		DocumentDBEventSourceConfig:         in.DocumentDBEventSourceConfig,
		EventSourceArn:                      in.EventSourceArn,
		FilterCriteria:                      filters(in.FilterCriteria),
		FunctionResponseTypes:               in.FunctionResponseTypes,
		KMSKeyArn:                           in.KMSKeyArn,
		LoggingConfig:                       in.LoggingConfig,
		MaximumBatchingWindowInSeconds:      in.MaximumBatchingWindowInSeconds,
		MaximumRecordAgeInSeconds:           in.MaximumRecordAgeInSeconds,
		MaximumRetryAttempts:                in.MaximumRetryAttempts,
		MetricsConfig:                       in.MetricsConfig,
		ParallelizationFactor:               in.ParallelizationFactor,
		ProvisionedPollerConfig:             in.ProvisionedPollerConfig,
		Queues:                              in.Queues,
		ScalingConfig:                       in.ScalingConfig,
		SelfManagedEventSource:              in.SelfManagedEventSource,
		SelfManagedKafkaEventSourceConfig:   in.SelfManagedKafkaEventSourceConfig,
		SourceAccessConfigurations:          in.SourceAccessConfigurations,
		StartingPosition:                    in.StartingPosition,
		StartingPositionTimestamp:           in.StartingPositionTimestamp,
		StateTransitionReason:               aws.String("USER_INITIATED"),
		Topics:                              in.Topics,
		TumblingWindowInSeconds:             in.TumblingWindowInSeconds,
	}
	switch {
	case e.service == "sqs":
		byDefault(&set.BatchSize, plainSQSBatch)
		byDefault(&set.MaximumBatchingWindowInSeconds, 0)
	case e.stream():
		streamDefaults(set)
	default:
		byDefault(&set.BatchSize, 100)
		set.LastProcessingResult = aws.String(nothingProcessed)
	}
	if e.service == "kafka" {
		e.kafkaDefaults(set, id)
	} else if set.FunctionResponseTypes == nil {
		set.FunctionResponseTypes = []types.FunctionResponseType{}
	}
	return set
}

func byDefault(p **int32, n int32) {
	if *p == nil {
		*p = &n
	}
}

func streamDefaults(set *types.EventSourceMappingConfiguration) {
	byDefault(&set.BatchSize, 100)
	byDefault(&set.MaximumBatchingWindowInSeconds, 0)
	byDefault(&set.MaximumRecordAgeInSeconds, -1)
	byDefault(&set.MaximumRetryAttempts, -1)
	byDefault(&set.ParallelizationFactor, 1)
	byDefault(&set.TumblingWindowInSeconds, 0)
	if set.BisectBatchOnFunctionError == nil {
		set.BisectBatchOnFunctionError = aws.Bool(false)
	}
	if set.DestinationConfig == nil {
		set.DestinationConfig = &types.DestinationConfig{}
	}
	if set.DestinationConfig.OnFailure == nil {
		set.DestinationConfig.OnFailure = &types.OnFailure{}
	}
	set.LastProcessingResult = aws.String(nothingProcessed)
	set.StateTransitionReason = aws.String("User action")
}

// kafkaDefaults: the consumer group is named like the mapping, and reading begins at the beginning.
func (e *eventSource) kafkaDefaults(set *types.EventSourceMappingConfiguration, id string) {
	if set.StartingPosition == "" {
		set.StartingPosition = types.EventSourcePositionTrimHorizon
	}
	if e.managed && set.AmazonManagedKafkaEventSourceConfig == nil {
		set.AmazonManagedKafkaEventSourceConfig = &types.AmazonManagedKafkaEventSourceConfig{ConsumerGroupId: aws.String(id)}
	}
	if !e.managed && set.SelfManagedKafkaEventSourceConfig == nil {
		set.SelfManagedKafkaEventSourceConfig = &types.SelfManagedKafkaEventSourceConfig{ConsumerGroupId: aws.String(id)}
	}
}

// filters returns nil for criteria without a filter: they are not shown (recorded).
func filters(f *types.FilterCriteria) *types.FilterCriteria {
	if f == nil || len(f.Filters) == 0 {
		return nil
	}
	return f
}

// check refuses what the model allows and the service does not. Texts that are recorded: test_event_source_mapping_exceptions,
// test_create_event_source_validation, test_event_source_mapping_default_batch_size, test_sqs_invalid_event_filter.
func (e *eventSource) check(set *types.EventSourceMappingConfiguration) error {
	if set.DestinationConfig != nil && (set.DestinationConfig.OnSuccess != nil || e.service == "sqs") {
		return invalid("Unsupported DestinationConfig parameter for given event source mapping type.")
	}
	if err := e.checkPosition(set); err != nil {
		return err
	}
	batch, window := aws.ToInt32(set.BatchSize), aws.ToInt32(set.MaximumBatchingWindowInSeconds)
	switch {
	case e.fifo() && batch > plainSQSBatch:
		return invalid("BatchSize must be at most %d for FIFO queues; it is %d.", plainSQSBatch, batch)
	case e.fifo() && window > 0:
		return invalid("Batching window is not supported for FIFO queues.")
	case e.service == "sqs" && batch > plainSQSBatch && window == 0:
		return invalid("Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10")
	case e.service == "kafka" && len(set.Topics) == 0:
		return invalid("Topics must name the topic to read from.")
	case e.service == "mq" && len(set.Queues) == 0:
		return invalid("Queues must name the queue to read from.")
	}
	if age := aws.ToInt32(set.MaximumRecordAgeInSeconds); age != -1 && age < minRecordAge && set.MaximumRecordAgeInSeconds != nil {
		return invalid("MaximumRecordAgeInSeconds must be -1 or at least %d; it is %d.", minRecordAge, age)
	}
	if set.FilterCriteria != nil {
		for _, f := range set.FilterCriteria.Filters {
			if _, err := filter.Parse(aws.ToString(f.Pattern)); err != nil {
				return invalid("Invalid filter pattern definition.")
			}
		}
	}
	return nil
}

// checkPosition refuses a starting position that a source does not know.
func (e *eventSource) checkPosition(set *types.EventSourceMappingConfiguration) error {
	at := set.StartingPosition
	switch {
	case e.stream() && at == "":
		return invalid("1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.")
	case e.service == "dynamodb" && at == types.EventSourcePositionAtTimestamp, e.service == "sqs" && at != "":
		return invalid("Unsupported starting position for arn type: %s", e.names[0])
	case at == types.EventSourcePositionAtTimestamp && set.StartingPositionTimestamp == nil:
		return invalid("StartingPositionTimestamp must be given with the starting position AT_TIMESTAMP.")
	}
	return nil
}

// taken says that another mapping feeds the same function from the same source. The text on Kafka is recorded, the others
// are as users report them.
func (e *eventSource) taken(old *catalog.Mapping, function string, topics []string) error {
	const update = "Please update or delete the existing mapping with UUID "
	switch {
	case e.service == "kafka":
		return lambda.Errorf(lambda.ResourceConflict, `An event source mapping with event source ("%s"), function ("%s"), topics ("%s") already exists. %s%s`,
			strings.Join(e.names, ","), old.Function, strings.Join(topics, ","), update, old.UUID)
	case e.service == "sqs":
		return lambda.Errorf(lambda.ResourceConflict, `An event source mapping with SQS arn (" %s ") and function (" %s ") already exists. %s%s`,
			e.names[0], function, update, old.UUID)
	}
	return lambda.Errorf(lambda.ResourceConflict, `The event source arn (" %s ") and function (" %s ") provided mapping already exists. %s%s`,
		e.names[0], function, update, old.UUID)
}

// changeSettings writes what an update says into the settings.
func changeSettings(set *types.EventSourceMappingConfiguration, in *sdk.UpdateEventSourceMappingInput) {
	change(&set.AmazonManagedKafkaEventSourceConfig, in.AmazonManagedKafkaEventSourceConfig)
	change(&set.BatchSize, in.BatchSize)
	change(&set.BisectBatchOnFunctionError, in.BisectBatchOnFunctionError)
	change(&set.DestinationConfig, in.DestinationConfig)
	change(&set.DocumentDBEventSourceConfig, in.DocumentDBEventSourceConfig)
	change(&set.KMSKeyArn, in.KMSKeyArn)
	change(&set.LoggingConfig, in.LoggingConfig)
	change(&set.MaximumBatchingWindowInSeconds, in.MaximumBatchingWindowInSeconds)
	change(&set.MaximumRecordAgeInSeconds, in.MaximumRecordAgeInSeconds)
	change(&set.MaximumRetryAttempts, in.MaximumRetryAttempts)
	change(&set.MetricsConfig, in.MetricsConfig)
	change(&set.ParallelizationFactor, in.ParallelizationFactor)
	change(&set.ProvisionedPollerConfig, in.ProvisionedPollerConfig)
	change(&set.ScalingConfig, in.ScalingConfig)
	change(&set.SelfManagedKafkaEventSourceConfig, in.SelfManagedKafkaEventSourceConfig)
	change(&set.TumblingWindowInSeconds, in.TumblingWindowInSeconds)
	if in.FilterCriteria != nil {
		set.FilterCriteria = filters(in.FilterCriteria)
	}
	if in.FunctionResponseTypes != nil {
		set.FunctionResponseTypes = in.FunctionResponseTypes
	}
	if in.SourceAccessConfigurations != nil {
		set.SourceAccessConfigurations = in.SourceAccessConfigurations
	}
}

func change[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}
