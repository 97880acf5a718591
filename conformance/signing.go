package conformance

func signingScenarios() []scenario {
	return []scenario{
		{id: "api::TestCodeSigningConfig::test_function_code_signing_config", run: codeSigning},
		{id: "api::TestLambdaTag::test_tag_exceptions[capacity_provider]", run: func(s *session) {
			tagExceptionsOf(s, "arn:aws:lambda:"+region+":"+recordedAccount+":capacity-provider:", "nonexistent-"+uid())
		}},
	}
}

func codeSigning(s *session) {
	name := "lambda_func-" + uid()
	s.fixture(name, nil)
	made := s.ok("CreateCodeSigningConfig", params{
		"Description": "Testing CodeSigning Config", "CodeSigningPolicies": params{"UntrustedArtifactOnDeployment": "Enforce"},
		"AllowedPublishers": params{"SigningProfileVersionArns": []string{"arn:aws:signer:" + region + ":" + recordedAccount + ":/signing-profiles/test"}},
	})
	s.note("create_code_signing_config", made)
	config, _ := made["CodeSigningConfig"].(map[string]any)
	arn := params{"CodeSigningConfigArn": config["CodeSigningConfigArn"]}
	s.note("update_code_signing_config", s.ok("UpdateCodeSigningConfig", with(arn, params{"CodeSigningPolicies": params{"UntrustedArtifactOnDeployment": "Warn"}})))
	s.note("get_code_signing_config", s.ok("GetCodeSigningConfig", arn))
	fn := params{"FunctionName": name}
	s.note("put_function_code_signing_config", s.ok("PutFunctionCodeSigningConfig", with(arn, fn)))
	s.note("get_function_code_signing_config", s.ok("GetFunctionCodeSigningConfig", fn))
	list, _ := s.ok("ListCodeSigningConfigs", nil)["CodeSigningConfigs"].([]any)
	for _, c := range list {
		if at(c, "CodeSigningConfigArn") == arn["CodeSigningConfigArn"] {
			s.note("list_code_signing_configs", c)
		}
	}
	s.note("list_functions_by_code_signing_config", s.ok("ListFunctionsByCodeSigningConfig", arn))
	s.note("delete_function_code_signing_config", s.ok("DeleteFunctionCodeSigningConfig", fn))
	s.note("delete_code_signing_config", s.ok("DeleteCodeSigningConfig", arn))
}
