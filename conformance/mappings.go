package conformance

import "strings"

const (
	mappingTests = "api::TestLambdaEventSourceMappings::"
	sqsTests     = "sqs::TestSQSEventSourceMapping::"
	dynamoTests  = "dynamodbstreams::TestDynamoDBEventSourceMapping::"
	kinesisTests = "kinesis::TestKinesisSource::"

	needsSources = "nothing reads from streams, and the services behind them are not part of this server"
)

func mappingScenarios() []scenario {
	all := []scenario{
		{id: mappingTests + "test_create_event_filter_criteria_validation", run: func(s *session) {
			s.note("response-with-empty-filters", s.mapped(dynamo, params{"FilterCriteria": params{"Filters": []any{}}, "StartingPosition": "LATEST"}))
		}},
		{id: mappingTests + "test_create_event_source_self_managed", run: selfManaged},
		{id: mappingTests + "test_create_event_source_validation", run: sourceValidation},
		{id: mappingTests + "test_event_source_mapping_exceptions", run: mappingExceptions},
		{id: mappingTests + "test_event_source_mapping_lifecycle_delete_function", run: mappingLifecycle,
			labels:  []string{"create_response", "delete_function_response", "delete_response"},
			pending: "an enabled mapping says that nothing reads its source, and the recording holds an answer of DynamoDB"},
		{id: "api::TestLambdaTag::test_tag_lifecycle[event_source_mapping]", run: func(s *session) {
			m := s.mapped(queue, nil)
			s.tagSteps("arn:aws:lambda:" + region + ":" + recordedAccount + ":event-source-mapping:" + at(m, "UUID"))
		}},
		{id: "api::TestLambdaTag::test_create_tag_on_esm_create", run: tagOnCreate},
		{id: sqsTests + "test_event_source_mapping_default_batch_size", run: defaultBatchSize},
		{id: "sqs::test_fifo_message_group_parallelism", run: switchMapping},
	}
	for pattern, label := range map[string]string{"null": "None", `{"eventSource": []}`: "invalid_filter3"} {
		all = append(all, scenario{id: sqsTests + "test_sqs_invalid_event_filter[" + label + "]", run: func(s *session) {
			s.note("create_event_source_mapping_exception", s.mapped(queue, filter(pattern)))
		}})
	}
	broken := `[{"eventName": ["INSERT"=123}]`
	all = append(all, scenario{id: dynamoTests + "test_dynamodb_invalid_event_filter[" + broken + "]", run: func(s *session) {
		s.note("exception_event_source_creation", s.mapped(dynamo, with(filter(broken), horizon)))
	}})
	return append(all, createdMappings()...)
}

// createdMappings are tests of sources that nothing reads: of these only the answer to CreateEventSourceMapping can be compared.
func createdMappings() []scenario {
	const usual = "create_event_source_mapping_response"
	one := params{"BatchSize": 1, "MaximumBatchingWindowInSeconds": 1, "MaximumRetryAttempts": 1}
	onFailure := func(destination string) params {
		return params{"DestinationConfig": params{"OnFailure": params{"Destination": destination}}}
	}
	sqs := "arn:aws:sqs:" + region + ":" + recordedAccount + ":destination"
	batch := params{"FunctionResponseTypes": []string{"ReportBatchItemFailures"}, "MaximumBatchingWindowInSeconds": 1}
	var all []scenario
	add := func(id, label, source string, p params) {
		all = append(all, scenario{id: id, labels: []string{label}, pending: needsSources, run: func(s *session) { s.note(label, s.mapped(source, p)) }})
	}
	add(dynamoTests+"test_deletion_event_source_mapping_with_dynamodb", "create_event_source_mapping_result", dynamo, horizon)
	add(dynamoTests+"test_disabled_dynamodb_event_source_mapping", "create_event_source_mapping_result", dynamo, with(horizon, params{"MaximumBatchingWindowInSeconds": 1}))
	add(dynamoTests+"test_dynamodb_event_filter[exists_false_filter]", usual, dynamo,
		with(with(horizon, one), filter(`{"dynamodb": {"NewImage": {"presentKey": [{"exists": false}]}}}`)))
	add(dynamoTests+"test_dynamodb_event_filter[exists_filter_type]", usual, dynamo,
		with(with(horizon, one), filter(`{"dynamodb": {"NewImage": {"presentKey": {"S": [{"exists": true}]}}}}`)))
	add(dynamoTests+"test_dynamodb_event_source_mapping_with_s3_on_failure_destination", usual, dynamo, with(with(horizon, one), onFailure("arn:aws:s3:::destination")))
	add(dynamoTests+"test_dynamodb_event_source_mapping_with_sns_on_failure_destination_config", usual, dynamo,
		with(with(horizon, one), onFailure(strings.Replace(sqs, "sqs", "sns", 1))))
	items := with(with(with(horizon, batch), onFailure(sqs)), params{"BatchSize": 3, "MaximumRetryAttempts": 3})
	add(dynamoTests+"test_dynamodb_report_batch_item_failures", usual, dynamo, items)
	add(dynamoTests+"test_dynamodb_report_batch_item_failures_with_on_failure_destination_config", usual, dynamo, items)

	add("kinesis::TestKinesisEventFiltering::test_kinesis_event_filtering_json_pattern", usual, stream, with(with(horizon, one), filter(`{"data": {"event_type": ["function_1"]}}`)))
	add(kinesisTests+"test_create_kinesis_event_source_mapping", usual, stream, params{"StartingPosition": "LATEST"})
	add(kinesisTests+"test_create_kinesis_event_source_mapping_multiple_lambdas_single_kinesis_event_stream", usual+"-a", stream, horizon)
	add(kinesisTests+"test_disable_kinesis_event_source_mapping", usual, stream, params{"StartingPosition": "LATEST", "BatchSize": 10})
	return all
}

const (
	queue  = "arn:aws:sqs:" + region + ":" + recordedAccount + ":queue"
	stream = "arn:aws:kinesis:" + region + ":" + recordedAccount + ":stream/source"
	dynamo = "arn:aws:dynamodb:" + region + ":" + recordedAccount + ":table/items/stream/changes"
)

var horizon = params{"StartingPosition": "TRIM_HORIZON"}

func filter(pattern string) params {
	return params{"FilterCriteria": params{"Filters": []any{params{"Pattern": pattern}}}}
}

// mapped makes a function and a mapping to it.
func (s *session) mapped(source string, more params) map[string]any {
	s.Helper()
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	return s.call("CreateEventSourceMapping", with(params{"FunctionName": name, "EventSourceArn": source}, more))
}

func mappingExceptions(s *session) {
	unknown := params{"UUID": "12345678-1234-1234-1234-123456789012"}
	s.note("get_unknown_uuid", s.call("GetEventSourceMapping", unknown))
	s.note("delete_unknown_uuid", s.call("DeleteEventSourceMapping", unknown))
	s.note("update_unknown_uuid", s.call("UpdateEventSourceMapping", with(unknown, params{"Enabled": false})))
	create := func(label string, p params) {
		s.note(label, s.call("CreateEventSourceMapping", with(params{"FunctionName": "doesnotexist"}, p)))
	}
	create("create_no_event_source_arn", nil)
	create("create_unknown_params", params{"EventSourceArn": queue})
	create("destination_config_failure", params{"EventSourceArn": queue, "DestinationConfig": params{"OnSuccess": params{"Destination": queue + "2"}}})
}

func sourceValidation(s *session) {
	at := strings.Replace(dynamo, "changes", "2024", 1)
	s.note("no_starting_position", s.mapped(at, nil))
	s.note("invalid_starting_position", s.mapped(at, params{"StartingPosition": "invalid"}))
	s.note("incompatible_starting_position", s.mapped(at, params{"StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1741010802}))
}

func selfManaged(s *session) {
	name := "test-function-" + uid()
	s.fixture(name, nil)
	access := params{"SourceAccessConfigurations": []any{params{"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:" + region + ":" + recordedAccount + ":secret:secret-1"}}}
	create := func(label string, servers []string, p params) {
		source := params{"FunctionName": name, "SelfManagedEventSource": params{"Endpoints": params{"KAFKA_BOOTSTRAP_SERVERS": servers}}, "Topics": []string{"topic"}}
		s.note(label, s.call("CreateEventSourceMapping", with(source, p)))
	}
	one := []string{"kafka:1000"}
	create("missing-source-access-configuration", one, nil)
	create("event-source-mapping-default", one, access)
	create("duplicate-source", one, access)
	create("multiple-duplicate-source", []string{"kafka:1000", "kafka:2000"}, access)
	create("event-source-mapping-values", one, with(access, params{"Topics": []string{"topic_2"}, "BatchSize": 1, "StartingPosition": "LATEST",
		"SelfManagedKafkaEventSourceConfig": params{"ConsumerGroupId": "random_id"}}))
}

func mappingLifecycle(s *session) {
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	p := params{"FunctionName": name, "EventSourceArn": dynamo, "BatchSize": 1, "StartingPosition": "TRIM_HORIZON", "MaximumBatchingWindowInSeconds": 1,
		"MaximumRetryAttempts": 1, "DestinationConfig": params{"OnFailure": params{"Destination": queue}}}
	m := s.ok("CreateEventSourceMapping", p)
	s.note("create_response", m)
	id := params{"UUID": m["UUID"]}
	s.note("get_response", s.ok("GetEventSourceMapping", id))
	s.note("delete_function_response", s.ok("DeleteFunction", params{"FunctionName": name}))
	s.note("get_response_post_delete", s.ok("GetEventSourceMapping", id))
	s.note("delete_response", s.ok("DeleteEventSourceMapping", id))
}

func tagOnCreate(s *session) {
	m := s.mapped(queue, params{"Tags": params{"testtag": "custom-tag"}})
	got := s.ok("GetEventSourceMapping", params{"UUID": m["UUID"]})
	_, shown := got["UUID"]
	s.note("get_event_source_mapping_with_tag", shown)
	s.note("list_tags_result", s.ok("ListTags", params{"Resource": m["EventSourceMappingArn"]}))
}

func defaultBatchSize(s *session) {
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	p := params{"FunctionName": name, "EventSourceArn": queue}
	m := s.ok("CreateEventSourceMapping", p)
	s.note("create-event-source-mapping", m)
	s.note("invalid-update-event-source-mapping", s.call("UpdateEventSourceMapping", params{"UUID": m["UUID"], "BatchSize": 15}))
	s.note("invalid-create-event-source-mapping", s.call("CreateEventSourceMapping", with(p, params{"EventSourceArn": queue + "2", "BatchSize": 15})))
}

// switchMapping shows what changes when a mapping is enabled.
func switchMapping(s *session) {
	m := s.mapped(strings.Replace(queue, ":queue", ":queue_fifo", 1), params{"BatchSize": 1, "Enabled": false})
	s.note("create_esm_disabled", m)
	id := params{"UUID": m["UUID"]}
	s.note("update_esm_enabling", s.ok("UpdateEventSourceMapping", with(id, params{"Enabled": true})))
	s.note("get_esm_enabled", s.ok("GetEventSourceMapping", id))
}
