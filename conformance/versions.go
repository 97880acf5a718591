package conformance

func versionScenarios() []scenario {
	const tests = "api::TestLambdaVersions::"
	return []scenario{
		{id: tests + "test_publish_version_on_create", run: publishOnCreate},
		{id: tests + "test_version_lifecycle", run: versionLifecycle},
		{id: tests + "test_publish_with_wrong_sha256", run: publishWrongSHA},
	}
}

func publishOnCreate(s *session) {
	name := "fn-" + uid()
	get := func(label string, more params) {
		s.note(label, s.ok("GetFunction", with(params{"FunctionName": name}, more)))
	}
	list := func(label string) { s.note(label, s.ok("ListVersionsByFunction", params{"FunctionName": name})) }
	s.note("create_response", s.create(name, params{"Publish": true}))
	s.waitVersion(name, "1")
	get("get_function_result", nil)
	get("get_function_version_result", params{"Qualifier": "1"})
	get("get_function_latest_result", params{"Qualifier": "$LATEST"})
	list("list_versions_result")
	s.note("repeated_publish_response", s.ok("PublishVersion", params{"FunctionName": name, "Description": "Repeated version description :)"}))
	list("list_versions_result_after_publish")
}

func versionLifecycle(s *session) {
	name := "fn-" + uid()
	call := func(label, op string, more params) map[string]any {
		a := s.ok(op, with(params{"FunctionName": name}, more))
		s.note(label, a)
		return a
	}
	s.note("create_response", s.create(name, params{"Description": "No version :("}))
	call("get_function_result", "GetFunction", nil)
	call("list_versions_result", "ListVersionsByFunction", nil)
	call("first_update_response", "UpdateFunctionConfiguration", params{"Description": "First version :)"})
	s.wait(name)
	call("first_update_get_function", "GetFunction", nil)
	first := params{"Qualifier": at(call("first_publish_response", "PublishVersion", params{"Description": "First version description :)"}), "Version")}
	s.waitVersion(name, at(map[string]any(first), "Qualifier"))
	call("first_publish_get_function", "GetFunction", first)
	call("first_publish_get_function_config", "GetFunctionConfiguration", first)
	call("second_update_response", "UpdateFunctionConfiguration", params{"Description": "Second version :))"})
	s.wait(name)
	call("first_publish_get_function_after_update", "GetFunction", first)
	call("second_publish_response", "PublishVersion", nil)
	call("third_publish_response", "PublishVersion", params{"Description": "Third version description :)))"})
	call("list_versions_result_after_third_publish", "ListVersionsByFunction", nil)
	s.ok("DeleteFunction", params{"FunctionName": name, "Qualifier": first["Qualifier"]})
	call("list_versions_result_after_deletion_of_first_version", "ListVersionsByFunction", nil)
}

func publishWrongSHA(s *session) {
	name := "fn-" + uid()
	s.note("create_response", s.create(name, nil))
	got := s.ok("GetFunction", params{"FunctionName": name})
	s.note("get_fn_response", got)
	s.note("publish_wrong_sha256_exc", s.call("PublishVersion", params{"FunctionName": name, "CodeSha256": "somenonexistentsha256"}))
	s.note("publish_result", s.ok("PublishVersion", params{"FunctionName": name, "CodeSha256": at(got, "Configuration", "CodeSha256")}))
}
