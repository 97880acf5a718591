package conformance

import "strings"

// runtimeClient is a runtime client of a few lines: what the server answers does not depend on the language that the recorded
// functions were written in. HANDLE is what it does with an event: it sets kind ("response" or "error") and answer.
const runtimeClient = `#!/usr/bin/env python3
import http.client, json, os
api = os.environ['AWS_LAMBDA_RUNTIME_API']
def call(method, path, body=None):
    c = http.client.HTTPConnection(api)
    c.request(method, '/2018-06-01/runtime/' + path, body, {'Lambda-Runtime-Function-Error-Type': 'Error'} if path.endswith('/error') else {})
    r = c.getresponse()
    return r, r.read()
while True:
    head, event = call('GET', 'invocation/next')
    HANDLE
    call('POST', 'invocation/' + head.getheader('Lambda-Runtime-Aws-Request-Id') + '/' + kind, json.dumps(answer))
`

// introspect answers with the context and the environment as the process was started with.
const introspect = `env = dict(v.split('=', 1) for v in open('/proc/self/environ').read().split('\0') if v)
    env['_X_AMZN_TRACE_ID'] = head.getheader('Lambda-Runtime-Trace-Id')
    kind, answer = 'response', {'ctx': {'aws_request_id': head.getheader('Lambda-Runtime-Aws-Request-Id'), 'deadline': int(head.getheader('Lambda-Runtime-Deadline-Ms')),
        'function_name': env['AWS_LAMBDA_FUNCTION_NAME'], 'function_version': env['AWS_LAMBDA_FUNCTION_VERSION'],
        'invoked_function_arn': head.getheader('Lambda-Runtime-Invoked-Function-Arn'), 'log_group_name': env['AWS_LAMBDA_LOG_GROUP_NAME'],
        'log_stream_name': env['AWS_LAMBDA_LOG_STREAM_NAME'], 'memory_limit_in_mb': int(env['AWS_LAMBDA_FUNCTION_MEMORY_SIZE'])}, 'environment': env, 'packages': []}`

const (
	goError   = `kind, answer = 'error', {'errorMessage': 'Error: some_error_msg', 'errorType': 'errorString'}`
	rustError = `kind, answer = 'error', {'errorMessage': 'Error: "some_error_msg"', 'errorType': '&alloc::boxed::Box<dyn core::error::Error + core::marker::Send + core::marker::Sync>'}`
)

func providedScenarios() []scenario {
	var all []scenario
	for _, runtime := range []string{"provided.al2", "provided.al2023"} {
		for prefix, handle := range map[string]string{commonTests: rustError, "runtimes::TestGoProvidedRuntimes::": goError} {
			all = append(all, scenario{id: prefix + "test_uncaught_exception_invoke[" + runtime + "]", runtime: runtime, run: func(s *session) {
				name := "test-function-" + uid()
				s.note("create_function_result", s.provided(name, runtime, handle, nil))
				s.note("error_result", s.ok("Invoke", params{"FunctionName": name, "Payload": []byte(`{"error_msg":"some_error_msg"}`)}))
			}})
		}
	}
	return append(all, scenario{id: commonTests + "test_introspection_invoke[provided.al2023]", runtime: "provided.al2023", run: func(s *session) {
		name := "test-function-" + uid()
		env := params{"Environment": params{"Variables": params{"TEST_KEY": "TEST_VAL"}}}
		s.note("create_function_result", s.provided(name, "provided.al2023", introspect, env))
		s.note("invocation_result_payload", s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}")})["Payload"])
		s.note("invocation_result_payload_qualified", s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}"), "Qualifier": "$LATEST"})["Payload"])
	}})
}

// provided makes a function that brings its own runtime.
func (s *session) provided(name, runtime, handle string, more params) map[string]any {
	s.Helper()
	return s.create(name, with(params{"Runtime": runtime, "Handler": "function.handler", "MemorySize": 1024,
		"Code": params{"ZipFile": zipped("bootstrap", strings.Replace(runtimeClient, "HANDLE", handle, 1))}}, more))
}
