package conformance

func permissionScenarios() []scenario {
	const tests = "api::TestLambdaPermissions::"
	return []scenario{
		{id: tests + "test_permission_exceptions", run: permissionExceptions},
		{id: tests + "test_add_lambda_permission_aws", run: addPermission},
		{id: tests + "test_lambda_permission_fn_versioning", run: permissionVersions},
		{id: tests + "test_add_lambda_permission_fields", run: permissionFields,
			kinds: map[string]string{"user_arn": `arn:aws:iam::111111111111:user/tester`}},
		{id: tests + "test_remove_multi_permissions", run: removePermissions},
		{id: tests + "test_lambda_permission_versioning", run: permissionVersionsOld,
			pending: "recorded in 2022; the service no longer answers so (test_lambda_permission_fn_versioning is the newer recording)"},
	}
}

// allowS3 is the permission of most scenarios.
func allowS3(name string) params {
	return params{"FunctionName": name, "Action": "lambda:InvokeFunction", "StatementId": "s3", "Principal": "s3.amazonaws.com",
		"SourceArn": "arn:aws:s3:::test-bucket"}
}

// except returns p without some members.
func except(p params, members ...string) params {
	q := with(p, nil)
	for _, m := range members {
		delete(q, m)
	}
	return q
}

func permissionExceptions(s *session) {
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	add := func(label string, more params) { s.note(label, s.call("AddPermission", with(allowS3(name), more))) }
	remove := func(label string, p params) { s.note(label, s.call("RemovePermission", p)) }

	s.note("add_permission_invalid_statement_id", s.call("AddPermission", with(except(allowS3(name), "SourceArn"), params{"StatementId": "example.com"})))
	add("add_permission_fn_qualifier_mismatch", params{"FunctionName": name + ":alias-not-42", "Qualifier": "42"})
	add("add_permission_fn_qualifier_latest", params{"FunctionName": name + ":$LATEST", "Qualifier": "$LATEST"})
	s.note("add_permission_principal_invalid", s.call("AddPermission", with(except(allowS3(name), "SourceArn"),
		params{"StatementId": "lambda", "Principal": "invalid.nonaws.com", "SourceAccount": s.target.Account})))
	s.note("get_policy_fn_doesnotexist", s.call("GetPolicy", params{"FunctionName": "doesnotexist"}))
	s.note("get_policy_fn_version_doesnotexist", s.call("GetPolicy", params{"FunctionName": name, "Qualifier": "77"}))
	add("add_permission_fn_doesnotexist", params{"FunctionName": "doesnotexist"})
	remove("remove_permission_policy_doesnotexist", params{"FunctionName": name, "StatementId": "s3"})
	add("add_permission_fn_alias_doesnotexist", params{"FunctionName": name + ":alias-doesnotexist"})
	add("add_permission_fn_version_doesnotexist", params{"Qualifier": "42"})
	add("add_permission_fn_qualifier_invalid", params{"Qualifier": "invalid-qualifier-with-?-char"})
	add("add_permission_fn_qualifier_valid_doesnotexist", params{"Qualifier": "valid-with-$-but-doesnotexist"})
	s.ok("AddPermission", allowS3(name))
	add("add_permission_conflicting_statement_id", nil)
	remove("remove_permission_fn_doesnotexist", params{"FunctionName": "doesnotexist", "StatementId": "s3"})
	remove("remove_permission_fn_alias_doesnotexist", params{"FunctionName": name, "StatementId": "s3", "Qualifier": "alias-doesnotexist"})
}

func addPermission(s *session) {
	name := "lambda_func-" + uid()
	s.note("create_lambda", s.fixture(name, nil))
	s.note("add_permission", s.ok("AddPermission", allowS3(name)))
	s.note("get_policy", s.ok("GetPolicy", params{"FunctionName": name}))
}

func permissionVersions(s *session) {
	name := "lambda_func-" + uid()
	fn := params{"FunctionName": name}
	s.fixture(name, nil)
	s.note("add_permission", s.ok("AddPermission", allowS3(name)))
	s.note("get_policy", s.ok("GetPolicy", fn))
	published := s.ok("PublishVersion", fn)
	version := at(published, "Version")
	s.note("publish_version_result", published)
	s.waitVersion(name, version)
	s.note("get_function_result_after_publishing", s.ok("GetFunction", fn))
	s.note("get_policy_after_publishing_latest", s.ok("GetPolicy", fn))
	s.note("get_policy_after_publishing_new_version", s.call("GetPolicy", with(fn, params{"Qualifier": version})))
	s.ok("AddPermission", with(allowS3(name+":"+version), params{"Qualifier": version}))
	s.note("get_policy_version", s.ok("GetPolicy", with(fn, params{"Qualifier": version})))

	const alias = "permission-alias"
	created := s.ok("CreateAlias", with(fn, params{"Name": alias, "FunctionVersion": version}))
	s.note("create_alias_response", created)
	s.note("get_alias", s.ok("GetAlias", with(fn, params{"Name": alias})))
	s.note("add_permission_alias_revision_exception", s.call("AddPermission", with(allowS3(name), params{"Qualifier": alias, "RevisionId": "wrong"})))
	s.ok("AddPermission", with(allowS3(name+":"+alias), params{"Qualifier": alias, "RevisionId": created["RevisionId"]}))
	s.note("get_policy_alias", s.ok("GetPolicy", with(fn, params{"Qualifier": alias})))
	policy := s.ok("GetPolicy", fn)
	s.note("get_policy_after_adding_to_new_version", policy)
	s.ok("AddPermission", with(allowS3(name), params{"StatementId": "s3_2", "RevisionId": policy["RevisionId"]}))
	s.note("get_policy_after_adding_2", s.ok("GetPolicy", fn))
}

func permissionVersionsOld(s *session) {
	name := "lambda_func-" + uid()
	fn := params{"FunctionName": name}
	s.fixture(name, nil)
	s.note("add_permission", s.ok("AddPermission", allowS3(name)))
	s.note("get_policy", s.ok("GetPolicy", fn))
	version := at(s.ok("PublishVersion", fn), "Version")
	s.note("get_policy_after_publishing_latest", s.ok("GetPolicy", fn))
	s.note("get_policy_after_publishing_new_version", s.call("GetPolicy", with(fn, params{"Qualifier": version})))
	s.ok("AddPermission", with(allowS3(name), params{"Qualifier": version}))
	policy := s.ok("GetPolicy", fn)
	s.note("get_policy_after_adding_to_new_version", policy)
	s.ok("AddPermission", with(allowS3(name), params{"StatementId": "s3_2", "RevisionId": policy["RevisionId"]}))
	s.note("get_policy_after_adding_2", s.ok("GetPolicy", fn))
}

func permissionFields(s *session) {
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	add := func(label, sid, principal string, more params) {
		s.note(label, s.ok("AddPermission", with(params{"FunctionName": name, "Action": "lambda:InvokeFunction",
			"StatementId": sid, "Principal": principal}, more)))
	}
	account := params{"SourceAccount": recordedAccount}
	add("add_permission_principal_wildcard", "wilcard", "*", account)
	add("add_permission_principal_service", "lambda", "lambda.amazonaws.com", account)
	add("add_permission_principal_account", "account-id", recordedAccount, nil)
	add("add_permission_principal_arn", "user-arn", "arn:aws:iam::"+recordedAccount+":user/tester", account)
	add("add_permission_optional_fields", "urlPermission", "*", with(account, params{"Action": "lambda:InvokeFunctionUrl",
		"SourceArn": "arn:aws:s3:::test-bucket", "PrincipalOrgID": "o-1234567890", "FunctionUrlAuthType": "NONE"}))
	add("add_permission_alexa_skill", "alexaSkill", "*", params{"EventSourceToken": "amzn1.ask.skill.xxxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"})
}

func removePermissions(s *session) {
	name := "lambda_func-" + uid()
	fn := params{"FunctionName": name}
	s.fixture(name, nil)
	s.note("add_permission_1", s.ok("AddPermission", except(allowS3(name), "SourceArn")))
	s.note("add_permission_2", s.ok("AddPermission", with(allowS3(name), params{"StatementId": "sqs", "Principal": "sqs.amazonaws.com"})))
	s.note("policy_after_2_add", s.ok("GetPolicy", fn))
	s.note("remove_permission_exception_nonexisting_sid", s.call("RemovePermission", with(fn, params{"StatementId": "non-existent"})))
	s.ok("RemovePermission", with(fn, params{"StatementId": "sqs"}))
	s.note("policy_after_removal", s.ok("GetPolicy", fn))
	policy := s.ok("GetPolicy", fn)
	s.note("policy_after_removal_attempt", policy)
	s.ok("RemovePermission", with(fn, params{"StatementId": "s3", "RevisionId": policy["RevisionId"]}))
	s.note("get_policy_exception_removed_all", s.call("GetPolicy", fn))
}
