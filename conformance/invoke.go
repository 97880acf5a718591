package conformance

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
)

const (
	nodeEcho = "exports.handler = async (event) => { console.log(JSON.stringify(event)); return event; };\n"
	nodeNone = "exports.handler = async (event) => {};\n"
	nodeUp   = "let counter = 0;\nexports.handler = async () => ({ counter: counter++ });\n"
	alias    = "import os\n\ndef handler(event, context):\n    return {'version_id': 'VERSION', 'invoked_arn': context.invoked_function_arn, 'version_from_ctx': context.function_version}\n"
	sleeper  = "import time\n\ndef handler(event, context):\n    time.sleep(event['wait'])\n"
	logger   = "import logging\nlogger = logging.getLogger()\nlogger.setLevel(logging.INFO)\n\ndef handler(event, context):\n    logger.info('RequestId log message')\n    return context.aws_request_id\n"
	handlers = "def handler(event, context):\n    return {'handler': 'handler'}\n\ndef handler_two(event, context):\n    return {'handler': 'handler_two'}\n"

	pythonContext = "import os\n\ndef handler(event, context):\n    names = ['aws_request_id', 'function_name', 'function_version', 'invoked_function_arn', 'log_group_name', 'log_stream_name', 'memory_limit_in_mb']\n" +
		"    ctx = {n: getattr(context, n) for n in names}\n    ctx['remaining_time_in_millis'] = context.get_remaining_time_in_millis()\n" +
		"    return {'ctx': ctx, 'environment': dict(os.environ), 'packages': []}\n"
	nodeContext = "exports.handler = async (event, context) => ({ ctx: { aws_request_id: context.awsRequestId, function_name: context.functionName, function_version: context.functionVersion, invoked_function_arn: context.invokedFunctionArn, " +
		"log_group_name: context.logGroupName, log_stream_name: context.logStreamName, remaining_time_in_millis: context.getRemainingTimeInMillis() }, environment: process.env, packages: [] });\n"
)

const featureTests = "invoke::TestLambdaFeatures::"

func invokeScenarios() []scenario {
	all := []scenario{
		{id: "invoke::TestLambdaAliases::test_lambda_alias_moving", runtime: "python3.12", run: aliasMoving},
		{id: "invoke::TestLambdaBehavior::test_lambda_cache_local[nodejs]", runtime: "nodejs20.x", run: cacheLocal},
		{id: "invoke::TestLambdaBehavior::test_lambda_invoke_no_timeout", runtime: "python3.12", run: func(s *session) { s.sleep(2, 1) }},
		{id: "invoke::TestLambdaBehavior::test_lambda_invoke_with_timeout", runtime: "python3.12", run: func(s *session) { s.sleep(1, 2) }},
		{id: featureTests + "test_basic_invoke", runtime: "python3.9", run: basicInvoke},
		{id: featureTests + "test_invocation_with_logs[nodejs16.x]", runtime: "nodejs16.x", run: invokeLogs},
		{id: "invoke::TestLambdaVersions::test_lambda_handler_update", runtime: "python3.12", run: handlerUpdate},
		{id: "invoke::TestRequestIdHandling::test_request_id_invoke", runtime: "python3.12", run: requestID},
	}
	simple := func(test, runtime, code, kind string) {
		all = append(all, scenario{id: featureTests + test, runtime: runtime, run: func(s *session) {
			name := "test-function-" + uid()
			s.common(name, runtime, code, nil)
			p := params{"FunctionName": name, "Payload": []byte("{}"), "InvocationType": kind}
			s.note("invoke-result", s.ok("Invoke", p))
		}})
	}
	simple("test_invocation_type_dry_run[python3.9]", "python3.9", echo, "DryRun")
	simple("test_invocation_type_event[nodejs16.x]", "nodejs16.x", nodeEcho, "Event")
	simple("test_invocation_type_event[python3.10]", "python3.10", echo, "Event")
	simple("test_invocation_type_no_return_payload[nodejs-Event]", "nodejs20.x", nodeNone, "Event")
	simple("test_invocation_type_no_return_payload[nodejs-RequestResponse]", "nodejs20.x", nodeNone, "RequestResponse")
	simple("test_invocation_type_request_response[nodejs16.x]", "nodejs16.x", nodeEcho, "RequestResponse")
	simple("test_invocation_type_request_response[python3.9]", "python3.9", echo, "RequestResponse")
	for _, c := range []struct{ runtime, code string }{{"python3.12", pythonContext}, {"nodejs20.x", nodeContext}, {"nodejs24.x", nodeContext}} {
		all = append(all, scenario{id: commonTests + "test_introspection_invoke[" + c.runtime + "]", runtime: c.runtime, run: introspection(c.runtime, c.code)})
	}
	return all
}

func aliasMoving(s *session) {
	name := "alias-fn-" + uid()
	fn := params{"FunctionName": name}
	code := func(version string) string {
		return zipped("handler.py", strings.Replace(alias, "VERSION", version, 1))
	}
	invoke := func(label string, p params) {
		s.note(label, s.call("Invoke", with(params{"Payload": []byte("{}")}, p)))
	}
	moving := with(fn, params{"Qualifier": "alias1"})

	s.note("create_response", s.create(name, params{"Handler": "handler.handler", "Description": "No version :(", "Code": params{"ZipFile": code("version1")}}))
	s.ok("PublishVersion", with(fn, params{"Description": "First version description :)"}))
	s.waitVersion(name, "1")
	created := s.ok("CreateAlias", with(fn, params{"Name": "alias1", "FunctionVersion": "1"}))
	s.note("create_alias_response", created)
	invoke("invocation_result_qualifier_v1", moving)
	invoke("invocation_result_qualifier_v1_arn", params{"FunctionName": created["AliasArn"]})
	s.note("update_lambda_response", s.ok("UpdateFunctionCode", with(fn, params{"ZipFile": code("version2")})))
	s.wait(name)
	invoke("invocation_result_qualifier_v1_after_update", moving)
	s.note("second_publish_response", s.ok("PublishVersion", with(fn, params{"Description": "Second version description :)"})))
	s.waitVersion(name, "2")
	invoke("invocation_result_qualifier_v1_after_publish", moving)
	s.note("update_alias_response", s.ok("UpdateAlias", with(fn, params{"Name": "alias1", "FunctionVersion": "2"})))
	invoke("invocation_result_qualifier_v2", moving)
	invoke("invocation_exc_not_existent", with(fn, params{"Qualifier": "non-existent-alias"}))
}

func cacheLocal(s *session) {
	name := "test-function-" + uid()
	s.common(name, "nodejs20.x", nodeUp, nil)
	for _, label := range []string{"first_invoke_result", "second_invoke_result"} {
		s.note(label, s.ok("Invoke", params{"FunctionName": name}))
	}
}

// sleep invokes a function that sleeps for some seconds under a time limit.
func (s *session) sleep(limit, wait int) {
	name := "test-function-" + uid()
	s.note("create-result", s.fixture(name, params{"Timeout": limit, "Code": params{"ZipFile": zipped("handler.py", sleeper)}}))
	event, _ := json.Marshal(map[string]int{"wait": wait})
	s.note("invoke-result", s.ok("Invoke", params{"FunctionName": name, "Payload": event}))
}

func basicInvoke(s *session) {
	name, name2 := "test-function-"+uid(), "test-function-"+uid()
	more := params{"Runtime": "python3.9"}
	s.note("lambda_create_fn", s.create(name, more))
	s.note("lambda_create_fn_2", s.create(name2, more))
	s.note("lambda_get_fn", s.ok("GetFunction", params{"FunctionName": name}))
	s.note("lambda_get_fn_2", s.ok("GetFunction", params{"FunctionName": name2}))
	s.note("lambda_invoke_result", s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}")}))
}

// isoTime is a time in a log line, which the recorder shows as "date".
var isoTime = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)

// logLines returns the log that came with an Invoke's answer, line ends kept.
func logLines(invoked map[string]any) []string {
	text, _ := base64.StdEncoding.DecodeString(at(invoked, "LogResult"))
	lines := strings.SplitAfter(isoTime.ReplaceAllString(string(text), "date"), "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	}
	return lines
}

func list(lines []string) map[string]any {
	all := make([]any, len(lines))
	for i, l := range lines {
		all[i] = l
	}
	return map[string]any{"logs": all}
}

func invokeLogs(s *session) {
	name := "test-function-" + uid()
	s.common(name, "nodejs16.x", nodeEcho, params{"MemorySize": 128})
	invoked := s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}"), "LogType": "Tail"})
	s.note("logs", list(logLines(invoked)))
	s.note("invoke", invoked)
}

func handlerUpdate(s *session) {
	name := "test-function-" + uid()
	fn := params{"FunctionName": name}
	invoke := func(label string) { s.note(label, s.ok("Invoke", fn)) }
	s.fixture(name, params{"Code": params{"ZipFile": zipped("handler.py", handlers)}})
	invoke("invoke_result_handler_one")
	s.note("update_function_configuration_result", s.ok("UpdateFunctionConfiguration", with(fn, params{"Handler": "handler.handler_two"})))
	s.wait(name)
	s.note("get_function_result", s.ok("GetFunction", fn))
	invoke("invoke_result_handler_two")
	s.ok("PublishVersion", fn)
	invoke("invoke_result_handler_two_postpublish")
}

func requestID(s *session) {
	name := "test-function-" + uid()
	s.fixture(name, params{"Code": params{"ZipFile": zipped("handler.py", logger)}})
	invoked := s.ok("Invoke", params{"FunctionName": name, "LogType": "Tail"})
	var lines []string
	for _, l := range logLines(invoked) {
		lines = append(lines, strings.TrimSpace(l))
	}
	s.note("log_entries", list(lines))
	delete(invoked, "LogResult") // the recorder read the log from the log group
	s.note("invoke_result", invoked)
}

func introspection(runtime, code string) func(s *session) {
	return func(s *session) {
		name := "test-function-" + uid()
		s.note("create_function_result", s.common(name, runtime, code, params{"Environment": params{"Variables": params{"TEST_KEY": "TEST_VAL"}}}))
		s.note("invocation_result_payload", s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}")})["Payload"])
		qualified := s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}"), "Qualifier": "$LATEST"})
		s.note("invocation_result_payload_qualified", qualified["Payload"])
	}
}
