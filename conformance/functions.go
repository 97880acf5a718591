package conformance

import (
	"encoding/base64"
	"strings"
)

func functionScenarios() []scenario {
	return []scenario{
		{id: functionTests + "test_create_lambda_exceptions", run: createExceptions},
		{id: functionTests + "test_update_lambda_exceptions", run: updateExceptions},
		{id: functionTests + "test_lambda_code_location_zipfile", run: codeLocation},
		{id: functionTests + "test_lambda_concurrent_config_updates", run: concurrentUpdates},
		{id: "api::TestLambdaReservedConcurrency::test_function_concurrency_exceptions", run: concurrencyExceptions},
		{id: "invoke::TestLambdaConcurrency::test_lambda_concurrency_update", run: concurrencyUpdate},
		{id: "api::TestLoggingConfig::test_function_advanced_logging_configuration", run: loggingConfig},
		{id: "invoke::TestLambdaBaseFeatures::test_function_state", run: functionState},
		{id: "invoke::TestLambdaCleanup::test_recreate_function", run: recreate},
		{id: "api::TestLambdaRevisions::test_function_revisions_basic", run: revisions},
		{id: functionTests + "test_vpc_config", run: vpcConfig},
		{id: functionTests + "test_invalid_vpc_config_subnet", pending: "there are no VPCs to look a subnet up in", run: func(s *session) {
			s.vpc("subnet-id", "subnet-12345678", "SubnetIds", "bad-format-subnet", "SecurityGroupIds")
		}},
		{id: functionTests + "test_invalid_vpc_config_security_group", pending: "there are no VPCs to look a security group up in", run: func(s *session) {
			s.vpc("security-group", "sg-12345678", "SecurityGroupIds", "bad-format-security-group", "SubnetIds")
		}},
	}
}

// vpc creates functions with a VPC member that does not exist, and with one that is no identifier.
func (s *session) vpc(what, unknown, member, invalid, beside string) {
	create := func(id string) map[string]any {
		name := "fn-" + uid()
		s.names = append(s.names, name)
		return s.call("CreateFunction", with(valid(name), params{"VpcConfig": params{member: []string{id}, beside: []string{}}}))
	}
	s.note("create-response-non-existent-"+what, create(unknown))
	s.note("create-response-invalid-format-"+what, create(invalid))
}

func vpcConfig(s *session) {
	name := "fn-" + uid()
	fn := params{"FunctionName": name}
	vpc := func(subnets, groups []string) params {
		return params{"VpcConfig": params{"SubnetIds": subnets, "SecurityGroupIds": groups}}
	}
	step := func(label string, p params) {
		s.note(label+"_update_response", s.ok("UpdateFunctionConfiguration", with(fn, p)))
		s.wait(name)
		s.note(label+"_get_function_response", s.ok("GetFunction", fn))
	}
	first := vpc([]string{"subnet-1"}, []string{"sg-1"})
	s.note("create_response", s.fixture(name, with(params{"MemorySize": 256, "Timeout": 5}, first)))
	s.note("get_function_response", s.ok("GetFunction", fn))
	step("update_vpcconfig", vpc([]string{"subnet-2"}, []string{"sg-2"}))
	step("delete_vpcconfig", vpc([]string{}, []string{}))
}

func createExceptions(s *session) {
	create := func(label string, more params) {
		s.note(label, s.call("CreateFunction", with(valid("invalid-function-"+uid()), more)))
	}
	create("invalid_role_arn_exc", params{"Role": "r1"})
	create("invalid_runtime_exc", params{"Runtime": "non-existent-runtime"})
	create("uppercase_runtime_exc", params{"Runtime": "PYTHON3.9"})
	// Refused by the client before anything is sent; the recorder noted its text.
	s.note("empty_architectures", "Parameter validation failed:\nInvalid length for parameter Architectures, value: 0, valid min length: 1")
	create("multiple_architectures", params{"Architectures": []string{"x86_64", "arm64"}})
	create("uppercase_architecture", params{"Architectures": []string{"X86_64"}})
	junk := base64.StdEncoding.EncodeToString([]byte("this is not a zipfile, just a random string"))
	create("invalid_zip_exc", params{"Code": params{"ZipFile": junk}})
}

func updateExceptions(s *session) {
	name := "invalid-function-" + uid()
	s.create(name, nil)
	update := func(label, member, value string) {
		s.note(label, s.call("UpdateFunctionConfiguration", params{"FunctionName": name, member: value}))
	}
	update("invalid_role_arn_exc", "Role", "r1")
	update("invalid_runtime_exc", "Runtime", "non-existent-runtime")
	update("uppercase_runtime_exc", "Runtime", "PYTHON3.9")
}

func codeLocation(s *session) {
	name := "code-function-" + uid()
	s.note("create-response-zip-file", s.create(name, nil))
	got := s.ok("GetFunction", params{"FunctionName": name})
	s.note("get-function-response", got)
	s.download(got, zipped("index.py", echo))
	s.note("update-function-response", s.ok("UpdateFunctionCode", params{"FunctionName": name, "ZipFile": zipped("index.py", other)}))
	got = s.ok("GetFunction", params{"FunctionName": name})
	s.note("get-function-response-updated", got)
	s.download(got, zipped("index.py", other))
	s.wait(name)
}

// download fetches Code.Location and checks that it is the zip that was uploaded.
func (s *session) download(function map[string]any, want string) {
	s.Helper()
	// The location may hold the account, which answers show as the recorded one.
	location := strings.ReplaceAll(at(function, "Code", "Location"), recordedAccount, s.target.Account)
	body := s.get(location)
	if got := base64.StdEncoding.EncodeToString(body); got != want {
		s.Errorf("Code.Location gives %d bytes that are not the uploaded zip", len(body))
	}
}

func concurrentUpdates(s *session) {
	name := "fn-" + uid()
	s.note("create-function-response", s.fixture(name, nil))
	s.ok("UpdateFunctionConfiguration", params{"FunctionName": name, "Environment": params{"Variables": params{"TEST": "test"}}})
	s.note("update-during-in-progress-update-exc", s.call("UpdateFunctionConfiguration",
		params{"FunctionName": name, "Environment": params{"Variables": params{"TEST": "test2"}}}))
	s.wait(name)
}

func concurrencyExceptions(s *session) {
	put := func(label, name string, n int) {
		s.note(label, s.call("PutFunctionConcurrency", params{"FunctionName": name, "ReservedConcurrentExecutions": n}))
	}
	put("put_function_concurrency_with_function_name_doesnotexist", "doesnotexist", 1)
	put("put_function_concurrency_with_function_name_doesnotexist_and_invalid_concurrency", "doesnotexist", 0)
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	fn := s.ok("GetFunctionConfiguration", params{"FunctionName": name, "Qualifier": "$LATEST"})
	put("put_function_concurrency_with_qualified_arn", at(fn, "FunctionArn"), 0)
}

func concurrencyUpdate(s *session) {
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	s.note("put_function_concurrency", s.ok("PutFunctionConcurrency", params{"FunctionName": name, "ReservedConcurrentExecutions": 3}))
	s.note("get_function_concurrency_updated", s.ok("GetFunctionConcurrency", params{"FunctionName": name}))
	s.note("get_function_concurrency_info", s.ok("GetFunction", params{"FunctionName": name}))
	s.ok("DeleteFunctionConcurrency", params{"FunctionName": name})
	s.note("get_function_concurrency_deleted", s.ok("GetFunctionConcurrency", params{"FunctionName": name}))
}

func loggingConfig(s *session) {
	name := "fn-" + uid()
	s.note("create_response", s.fixture(name, params{"MemorySize": 256, "Timeout": 5, "LoggingConfig": params{"LogFormat": "JSON"}}))
	s.note("get_function_response", s.ok("GetFunction", params{"FunctionName": name}))
	s.note("function_config", s.ok("GetFunctionConfiguration", params{"FunctionName": name}))
	s.note("updated_config", s.ok("UpdateFunctionConfiguration", params{"FunctionName": name, "LoggingConfig": params{"LogGroup": "cool_lambda"}}))
	s.wait(name)
	s.note("received_config", s.ok("GetFunctionConfiguration", params{"FunctionName": name}))
}

func functionState(s *session) {
	name := "test-function-" + uid()
	s.note("create-fn-response", s.create(name, params{"Handler": "handler.handler", "Code": params{"ZipFile": zipped("handler.py", echo)}}))
	s.note("get-fn-response", s.ok("GetFunction", params{"FunctionName": name}))
}

func recreate(s *session) {
	name := "test-function-" + uid()
	code := params{"Handler": "lambda_echo.handler", "Code": params{"ZipFile": zipped("lambda_echo.py", echo)}}
	s.note("create_function_response_one", s.fixture(name, code))
	s.ok("DeleteFunction", params{"FunctionName": name})
	s.note("create_function_response_two", s.fixture(name, code))
}

func revisions(s *session) {
	name := "fn-" + uid()
	get := func(label string) string {
		a := s.ok("GetFunction", params{"FunctionName": name})
		s.note(label, a)
		return at(a, "Configuration", "RevisionId")
	}
	code := zipped("index.py", echo)
	s.note("create_function_response_rev1", s.fixture(name, params{"Handler": "index.handler", "Code": params{"ZipFile": code}}))
	rev2 := get("get_function_response_rev2")
	updateCode := params{"FunctionName": name, "ZipFile": code, "RevisionId": "wrong"}
	s.note("update_function_revision_exception", s.call("UpdateFunctionCode", updateCode))
	s.note("update_function_code_response_rev3", s.ok("UpdateFunctionCode", with(updateCode, params{"RevisionId": rev2})))
	s.wait(name)
	rev4 := get("get_function_response_rev4")
	updateConfig := params{"FunctionName": name, "Runtime": "python3.8", "RevisionId": "wrong"}
	s.note("update_function_configuration_revision_exception", s.call("UpdateFunctionConfiguration", updateConfig))
	s.note("update_function_configuration_response_rev5", s.ok("UpdateFunctionConfiguration", with(updateConfig, params{"RevisionId": rev4})))
	s.wait(name)
	get("get_function_response_rev6")
}
