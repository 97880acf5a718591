package conformance

import "strings"

// wantShare is how many of the recordings that concern zip functions must match, in percent.
const wantShare = 95

// outside are the recordings that do not concern zip functions (of Python, Node and provided runtimes; there are no others
// among the recordings) of this API, by the beginning of their ids: what they hold is mostly another service's. Whether they
// match does not matter: those that do are not counted either.
var outside = []struct{ prefix, why string }{
	{"api::TestLambdaImages::", "functions of container images"},
	{"api::TestLambdaFunction::test_invalid_vpc_config", "answers of EC2 about subnets and security groups"},
	{"destinations::TestLambdaDestinationEventbridge::", "events of EventBridge"},
	{"dynamodbstreams::", "records of DynamoDB's streams"},
	{"invoke::TestLambdaBehavior::test_lambda_host_prefix_api_operation", "a function that calls another service"},
	{"invoke::TestLambdaVersions::test_async_invoke_queue_upon_function_update", "a function that calls SQS"},
	{"kinesis::", "records of Kinesis"},
	{"sqs::test_message_body_and_attributes_passed_correctly", "a function that calls SQS"},
}

// share is how many recordings match, among all and among those that concern zip functions.
type share struct{ matching, all, zipMatching, zip int }

func (s share) percent() float64 { return 100 * float64(s.zipMatching) / float64(max(s.zip, 1)) }

// shareOf counts. The scenarios say which of them match as a whole; the replays fail where that is not so.
func shareOf(recordings map[string]recording) share {
	matching := map[string]bool{}
	for _, sc := range scenarios() {
		matching[sc.id] = sc.pending == "" && sc.labels == nil
	}
	var s share
	for id := range recordings {
		s.all++
		inside := outsideFor(id) == ""
		if inside {
			s.zip++
		}
		if matching[id] {
			s.matching++
			if inside {
				s.zipMatching++
			}
		}
	}
	return s
}

// outsideFor says what else than zip functions a recording concerns; "" when nothing.
func outsideFor(id string) string {
	for _, o := range outside {
		if strings.HasPrefix(id, o.prefix) {
			return o.why
		}
	}
	return ""
}
