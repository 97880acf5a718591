package conformance

import "strings"

func eventScenarios() []scenario {
	return []scenario{
		{id: "api::TestLambdaEventInvokeConfig::test_lambda_eventinvokeconfig_exceptions", run: eventConfigExceptions},
		{id: "api::TestLambdaRecursion::test_put_function_recursion_config_allow", run: func(s *session) {
			name := "fn-" + uid()
			s.fixture(name, nil)
			s.note("put_recursion_config_response", s.ok("PutFunctionRecursionConfig", params{"FunctionName": name, "RecursiveLoop": "Allow"}))
			s.note("get_recursion_config_response", s.ok("GetFunctionRecursionConfig", params{"FunctionName": name}))
		}},
		{id: "api::TestLambdaRecursion::test_put_function_recursion_config_default_terminate", run: func(s *session) {
			name := "fn-" + uid()
			s.fixture(name, nil)
			s.note("get_recursion_default_terminate_response", s.ok("GetFunctionRecursionConfig", params{"FunctionName": name}))
		}},
	}
}

func eventConfigExceptions(s *session) {
	name, second := "fn-eventinvoke-"+uid(), "fn-eventinvoke-2-"+uid()
	const alias = "eventinvokealias"
	s.fixture(name, nil)
	s.fixture(second, nil)
	s.note("fn_version_result", s.ok("PublishVersion", params{"FunctionName": name}))
	s.note("fn_alias_result", s.ok("CreateAlias", params{"FunctionName": name, "Name": alias, "FunctionVersion": "1"}))
	call := func(operation, label, function string, more params) {
		s.note(label, s.call(operation, with(params{"FunctionName": function}, more)))
	}
	put := func(label, function string, more params) { call("PutFunctionEventInvokeConfig", label, function, more) }
	once := params{"MaximumRetryAttempts": 1}
	at := func(qualifier string) params { return with(once, params{"Qualifier": qualifier}) }
	destination := func(kind, arn string) params {
		return params{"DestinationConfig": params{kind: params{"Destination": arn}}}
	}
	arn, missing := functionARN(name), functionARN("doesnotexist")

	put("put_functionname_name_notfound", "doesnotexist", once)
	put("put_functionname_arn_notfound", missing, once)
	put("put_functionname_nootherargs", "doesnotexist", nil)

	put("put_destination_lambda_doesntexist", name, destination("OnSuccess", missing))
	put("put_destination_recursive", name, destination("OnSuccess", arn))
	put("put_destination_other_lambda", name, destination("OnSuccess", functionARN(second)))
	put("put_destination_invalid_service_arn", name, destination("OnSuccess", strings.Replace(arn, ":lambda:", ":iam:", 1)))
	put("put_destination_success_no_destination_arn", name, params{"DestinationConfig": params{"OnSuccess": params{}}})
	put("put_destination_failure_no_destination_arn", name, params{"DestinationConfig": params{"OnFailure": params{}}})
	put("put_destination_invalid_arn_pattern", name, destination("OnFailure", strings.Replace(arn, ":lambda:", ":_-/!lambda:", 1)))

	put("put_destination_latest", name, once)
	put("put_destination_latest_explicit_qualifier", name, at("$LATEST"))
	put("put_destination_version", name, at("1"))
	put("put_alias_functionname_qualifier", name, at(alias))
	put("put_alias_doesnotexist", name, at("doesnotexist"))
	put("put_alias_qualifiedarn", arn+":"+alias, once)
	put("put_alias_qualifiedarn_qualifier", arn+":"+alias, at(alias))
	put("put_alias_qualifiedarn_qualifierconflict", arn+":"+alias, at("$LATEST"))
	put("put_alias_shorthand", name+":"+alias, once)
	put("put_alias_shorthand_qualifier", name+":"+alias, at(alias))
	put("put_alias_shorthand_qualifierconflict", name+":"+alias, at("$LATEST"))
	put("put_version_shorthand", name+":1", once)
	put("put_shorthand_qualifier_match", name+":$LATEST", at("$LATEST"))
	put("put_shorthand_qualifier_mismatch_1", name+":$LATEST", at("1"))
	put("put_shorthand_qualifier_mismatch_2", name+":$LATEST", at(alias))
	put("put_shorthand_qualifier_mismatch_3", name+":1", at(alias))

	put("put_maxevent_maxvalue_result", name, params{"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 21600})
	both, none := params{"MaximumRetryAttempts": 2, "MaximumEventAgeInSeconds": 60}, params{"MaximumRetryAttempts": 0}
	put("put_pre_overwrite", name, both)
	put("put_post_overwrite", name, none)
	call("GetFunctionEventInvokeConfig", "get_post_overwrite", name, nil)
	put("second_overwrite_existing_response", name, none)
	put("pre_update_response", name, both)
	call("UpdateFunctionEventInvokeConfig", "update_response", name, none)
	call("UpdateFunctionEventInvokeConfig", "update_response_existing", name, none)

	call("ListFunctionEventInvokeConfigs", "list_configs", name, nil)
	call("DeleteFunctionEventInvokeConfig", "delete_latest", name, nil)
	call("DeleteFunctionEventInvokeConfig", "delete_version", name, params{"Qualifier": "1"})
	call("DeleteFunctionEventInvokeConfig", "delete_alias", name, params{"Qualifier": alias})
	call("ListFunctionEventInvokeConfigs", "list_configs_postdelete", name, nil)
	call("DeleteFunctionEventInvokeConfig", "delete_function_not_found", name, nil)
	call("DeleteFunctionEventInvokeConfig", "delete_function_doesnotexist", "doesnotexist", nil)

	call("ListFunctionEventInvokeConfigs", "list_function_doesnotexist", "doesnotexist", nil)
	call("GetFunctionEventInvokeConfig", "get_function_doesnotexist", "doesnotexist", nil)
	call("GetFunctionEventInvokeConfig", "get_qualifier_doesnotexist", name, params{"Qualifier": "doesnotexist"})
	call("GetFunctionEventInvokeConfig", "get_eventinvokeconfig_doesnotexist", name, params{"Qualifier": alias})
	call("UpdateFunctionEventInvokeConfig", "update_eventinvokeconfig_function_doesnotexist", "doesnotexist", none)
	call("UpdateFunctionEventInvokeConfig", "update_eventinvokeconfig_config_doesnotexist_with_qualifier", name, with(none, params{"Qualifier": alias}))
	call("UpdateFunctionEventInvokeConfig", "update_eventinvokeconfig_config_doesnotexist_without_qualifier", name, none)
}
