package conformance

const (
	handlerError = "def handler(event, context):\n    raise Exception(\"Handler fails\")\n"
	handlerExit  = "import sys\n\n\ndef handler(event, context):\n    sys.exit(0)\n"
	importError  = "raise Exception(\"Runtime startup fails\")\n\n\ndef handler(event, context):\n    return {}\n"
	importExit   = "import sys\n\nsys.exit(0)\n\n\ndef handler(event, context):\n    return {}\n"
	pythonThrow  = "def handler(event, context):\n    raise Exception('Failed: some_error_msg')\n"
	nodeThrow    = "exports.handler = async () => { throw new Error('Error: some_error_msg'); };\n"
)

func errorScenarios() []scenario {
	const tests = "invoke::TestLambdaErrors::"
	all := []scenario{
		{id: tests + "test_lambda_handler_error", runtime: "python3.12", run: failing("lambda_handler_error", handlerError)},
		{id: tests + "test_lambda_handler_exit", runtime: "python3.12", run: failing("lambda_handler_exit", handlerExit)},
		{id: tests + "test_lambda_runtime_exit", runtime: "python3.12", run: failing("lambda_runtime_exit", importExit)},
		{id: tests + "test_lambda_runtime_error", runtime: "python3.12", run: failing("lambda_runtime_error", importError),
			pending: "the recorded stack is that of Python 3.13's own importlib, line numbers included"},
		{id: tests + `test_lambda_invoke_payload_encoding_error[body-n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt]`, run: func(s *session) {
			name := "test-function-" + uid()
			s.fixture(name, nil)
			s.note("invoke_function_invalid_payload_body", s.call("Invoke",
				params{"FunctionName": name, "Payload": []byte("n\x87r\x9e\xe9\xb5\xd7I\xee\x9bmt")}))
		}},
	}
	for _, runtime := range []string{"python3.9", "python3.10", "python3.13", "python3.14"} {
		all = append(all, uncaught(runtime, pythonThrow))
	}
	return append(all, uncaught("nodejs16.x", nodeThrow))
}

// failing creates a function of one file, and invokes it.
func failing(module, code string) func(*session) {
	return func(s *session) {
		name := "test-function-" + uid()
		s.fixture(name, params{"Handler": module + ".handler", "Code": params{"ZipFile": zipped(module+".py", code)}})
		s.note("invocation_error", s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}")}))
	}
}

func uncaught(runtime, code string) scenario {
	return scenario{id: commonTests + "test_uncaught_exception_invoke[" + runtime + "]", runtime: runtime, run: func(s *session) {
		name := "test-function-" + uid()
		s.note("create_function_result", s.common(name, runtime, code, nil))
		s.note("error_result", s.ok("Invoke", params{"FunctionName": name, "Payload": []byte(`{"error_msg":"some_error_msg"}`)}))
	}}
}
