package conformance

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// operations by the name that test ids use.
var operations = map[string]string{
	"create_function": "CreateFunction", "get_function": "GetFunction", "delete_function": "DeleteFunction", "invoke": "Invoke",
	"get_function_configuration": "GetFunctionConfiguration", "get_function_url_config": "GetFunctionUrlConfig",
	"get_function_code_signing_config": "GetFunctionCodeSigningConfig", "get_function_concurrency": "GetFunctionConcurrency",
	"get_function_event_invoke_config": "GetFunctionEventInvokeConfig",
}

const functionTests = "api::TestLambdaFunction::"

func nameScenarios() []scenario {
	var all []scenario
	for _, op := range []string{"delete_function", "get_function_code_signing_config", "get_function_concurrency", "get_function_configuration", "get_function_url_config"} {
		all = append(all, scenario{id: functionTests + "test_ops_on_nonexisting_fn[" + op + "]", run: func(s *session) {
			s.note("not_found_exception", s.call(operations[op], params{"FunctionName": "i-dont-exist-" + uid()}))
		}})
	}
	for _, op := range []string{"delete_function", "get_function_code_signing_config", "get_function_configuration", "get_function_event_invoke_config", "get_function_url_config", "invoke"} {
		all = append(all, scenario{id: functionTests + "test_get_function_wrong_region[" + op + "]",
			kinds: map[string]string{"wrong-region": "eu-central-1"}, run: func(s *session) {
				name := "i-exist-" + uid()
				s.fixture(name, nil)
				elsewhere := strings.Replace(functionARN(name), region, "eu-central-1", 1)
				s.note("wrong_region_exception", s.call(operations[op], params{"FunctionName": elsewhere}))
			}})
	}
	all = append(all,
		scenario{id: functionTests + "test_ops_with_arn_qualifier_mismatch[delete_function]", run: func(s *session) {
			arn := functionARN("some-function")
			s.note("not_match_exception", s.call("DeleteFunction", params{"FunctionName": arn + ":1", "Qualifier": "$LATEST"}))
			s.note("match_exception", s.call("DeleteFunction", params{"FunctionName": arn + ":$LATEST", "Qualifier": "$LATEST"}))
		}},
		scenario{id: functionTests + "test_delete_on_nonexisting_version", run: deleteVersions},
		scenario{id: functionTests + "test_invalid_invoke", run: func(s *session) {
			s.note("invoke_function_name_pattern_exc", s.call("Invoke", params{"FunctionName": "arn:aws:lambda:" + region + ":123400000000@function:myfn"}))
		}},
	)
	return append(all, validationScenarios()...)
}

func deleteVersions(s *session) {
	name := "i-exist-" + uid()
	s.fixture(name, nil)
	s.ok("DeleteFunction", params{"FunctionName": name, "Qualifier": "1233"})
	s.ok("DeleteFunction", params{"FunctionName": name, "Qualifier": "1233"})
	s.ok("DeleteFunction", params{"FunctionName": name})
	s.note("delete_function_response_non_existent", s.call("DeleteFunction", params{"FunctionName": name}))
	s.note("delete_function_response_non_existent_with_qualifier", s.call("DeleteFunction", params{"FunctionName": name, "Qualifier": "1233"}))
}

// names are the inputs of test_function_name_and_qualifier_validation: a name, and a qualifier or "".
var names = map[string][2]string{
	"full_arn_and_qualifier_too_long_and_invalid_region": {"arn:aws:lambda:invalid-region:" + recordedAccount + ":function:my-function-" + a(170), a(129)},
	"full_arn_with_multiple_qualifiers":                  {functionARN("my-function") + ":1:2", ""},
	"function_name_and_qualifier_too_long":               {a(65), a(65)},
	"function_name_is_single_invalid":                    {"*", ""},
	"function_name_too_long":                             {a(65), ""},
	"function_name_too_long_and_invalid_region":          {"arn:aws:lambda:invalid-region:" + recordedAccount + ":function:my-function" + a(170), ""},
	"incomplete_arn":                                     {"arn:aws:lambda:" + region + ":" + recordedAccount + ":function", ""},
	"invalid_account_id_in_partial_arn":                  {"invalid-account:function:my-function", ""},
	"invalid_characters_in_qualifier":                    {"my-function", "invalid!"},
	"invalid_region_in_arn":                              {"arn:aws:lambda:invalid-region:" + recordedAccount + ":function:my-function", ""},
	"latest_version_with_additional_qualifier":           {"my-function:$LATEST", "1"},
	"lowercase_latest_qualifier":                         {functionARN("my-function") + ":$latest", ""},
	"missing_account_id_in_arn":                          {"arn:aws:lambda:" + region + "::function:my-function", ""},
	"missing_region_in_arn":                              {"arn:aws:lambda::" + recordedAccount + ":function:my-function", ""},
	"misspelled_latest_in_arn":                           {functionARN("my-function") + ":$LATES", ""},
	"non_lambda_arn":                                     {"arn:aws:ec2:" + region + ":" + recordedAccount + ":instance:i-1234567890abcdef0", ""},
	"partial_arn_with_extra_qualifier":                   {"function:my-function:$LATEST:extra", ""},
	"qualifier_too_long":                                 {"my-function", a(129)},
	"qualifier_too_long0":                                {"my-function", a(129)},
	"qualifier_too_long1":                                {"my-function", a(65)},
}

func a(n int) string { return strings.Repeat("a", n) }

func validationScenarios() []scenario {
	var all []scenario
	for _, key := range []string{
		"full_arn_and_qualifier_too_long_and_invalid_region-create_function", "full_arn_and_qualifier_too_long_and_invalid_region-delete_function",
		"full_arn_and_qualifier_too_long_and_invalid_region-get_function", "full_arn_with_multiple_qualifiers-get_function",
		"full_arn_with_multiple_qualifiers-invoke", "function_name_and_qualifier_too_long-delete_function",
		"function_name_is_single_invalid-create_function", "function_name_is_single_invalid-invoke", "function_name_too_long-create_function",
		"function_name_too_long-get_function", "function_name_too_long_and_invalid_region-delete_function",
		"function_name_too_long_and_invalid_region-invoke", "incomplete_arn-delete_function", "incomplete_arn-invoke",
		"invalid_account_id_in_partial_arn-create_function", "invalid_account_id_in_partial_arn-delete_function",
		"invalid_account_id_in_partial_arn-invoke", "invalid_characters_in_qualifier-create_function",
		"invalid_characters_in_qualifier-delete_function", "invalid_characters_in_qualifier-get_function", "invalid_characters_in_qualifier-invoke",
		"invalid_region_in_arn-get_function", "invalid_region_in_arn-invoke", "latest_version_with_additional_qualifier-get_function",
		"lowercase_latest_qualifier-create_function", "missing_account_id_in_arn-delete_function", "missing_account_id_in_arn-invoke",
		"missing_region_in_arn-delete_function", "misspelled_latest_in_arn-delete_function", "misspelled_latest_in_arn-get_function",
		"non_lambda_arn-get_function", "non_lambda_arn-invoke", "partial_arn_with_extra_qualifier-delete_function",
		"partial_arn_with_extra_qualifier-invoke", "qualifier_too_long-invoke", "qualifier_too_long0-get_function", "qualifier_too_long1-invoke",
	} {
		what, op, _ := strings.Cut(key, "-")
		all = append(all, scenario{id: functionTests + "test_function_name_and_qualifier_validation[" + key + "]", run: func(s *session) {
			name, qualifier := names[what][0], names[what][1]
			p := params{"FunctionName": name}
			switch {
			case op == "create_function":
				p = valid(strings.TrimSuffix(name+":"+qualifier, ":"))
			case qualifier != "":
				p["Qualifier"] = qualifier
			}
			s.note(op+"_exception", summary(s.call(operations[op], p)))
		}})
	}
	return all
}

var validation = regexp.MustCompile(`\A(\d+) validation errors? detected: `)

// summary shows an error as test_function_name_and_qualifier_validation does: the broken constraints one by one, sorted.
func summary(answer map[string]any) map[string]any {
	code, message := at(answer, "Error", "Code"), at(answer, "Error", "Message")
	g := validation.FindStringSubmatch(message)
	if g == nil {
		return map[string]any{"Code": code, "Message": message}
	}
	count, _ := strconv.Atoi(g[1])
	list := strings.Split(strings.TrimPrefix(message, g[0]), "; ")
	slices.Sort(list)
	errors := make([]any, len(list))
	for i, e := range list {
		errors[i] = e
	}
	return map[string]any{"Code": code, "Count": float64(count), "Errors": errors}
}
