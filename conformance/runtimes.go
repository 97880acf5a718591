package conformance

import "strings"

// runtimeScenarios are those of which only the created function is recorded, and the refusals of old runtimes.
func runtimeScenarios() []scenario {
	var all []scenario
	for _, runtime := range []string{"go1.x", "nodejs12.x", "provided"} {
		all = append(all, scenario{id: "api::TestRuntimeValidation::test_create_deprecated_function_runtime_with_validation_enabled[" + runtime + "]",
			run: func(s *session) {
				s.note("deprecation_error", s.call("CreateFunction", with(valid("fn-"+uid()), params{"Runtime": runtime})))
			}})
	}
	for _, runtime := range []string{"nodejs16.x", "nodejs20.x", "python3.9", "python3.11", "python3.12", "python3.13"} {
		all = append(all, scenario{id: commonTests + "test_runtime_wrapper_invoke[" + runtime + "]", run: func(s *session) {
			s.note("create_function_result", s.common("test-function-"+uid(), runtime, echo, params{
				"Environment": params{"Variables": params{"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/environment_wrapper"}}}))
		}})
	}
	return append(all, scenario{id: "api::TestLambdaSnapStart::test_snapstart_update_function_configuration[python3.13]", run: func(s *session) {
		name := "fn-" + uid()
		s.note("create_function_response", s.common(name, "python3.13", echo, params{"Timeout": 5}))
		s.note("update_function_response", s.ok("UpdateFunctionConfiguration",
			params{"FunctionName": name, "SnapStart": params{"ApplyOn": "PublishedVersions"}}))
		s.wait(name)
	}})
}

const commonTests = "runtimes-common::TestLambdaRuntimesCommon::"

// common creates a function as the tests of all runtimes do: 1,024 MB, and the runtime's usual handler.
func (s *session) common(name, runtime, code string, more params) map[string]any {
	s.Helper()
	file, handler := "handler.py", "handler.handler"
	if strings.HasPrefix(runtime, "nodejs") {
		file, handler = "index.js", "index.handler"
	}
	return s.create(name, with(params{"Runtime": runtime, "Handler": handler, "MemorySize": 1024,
		"Code": params{"ZipFile": zipped(file, code)}}, more))
}
