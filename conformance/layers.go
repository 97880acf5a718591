package conformance

const layerTests = "api::TestLambdaLayer::"

func layerScenarios() []scenario {
	return []scenario{
		{id: layerTests + "test_layer_compatibilities[runtimes0]", run: func(s *session) {
			s.compatible("nodejs24.x", "nodejs22.x", "nodejs20.x", "nodejs18.x", "nodejs16.x", "nodejs14.x", "nodejs12.x",
				"python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python3.8", "python3.7")
		}},
		{id: layerTests + "test_layer_compatibilities[runtimes1]", run: func(s *session) {
			s.compatible("java25", "java21", "java17", "java11", "java8.al2", "java8", "dotnet10", "dotnet8", "dotnet6",
				"dotnetcore3.1", "go1.x", "ruby3.4", "ruby3.3", "ruby3.2", "ruby2.7")
		}},
		{id: layerTests + "test_layer_exceptions", run: layerExceptions},
		{id: layerTests + "test_layer_function_exceptions", run: layerFunctionExceptions},
		{id: layerTests + "test_layer_policy_exceptions", run: layerPolicyExceptions},
		{id: layerTests + "test_layer_policy_lifecycle", run: layerPolicyLifecycle},
		{id: "api::TestLambdaAccountSettings::test_account_settings_total_code_size", run: totalCodeSize},
	}
}

// layerZip is the content of every layer: a zip of one file.
var layerZip = params{"ZipFile": zipped("testlayer.txt", "test-content")}

// publish publishes a version of a layer.
func (s *session) publish(name string, more params) map[string]any {
	s.Helper()
	return s.call("PublishLayerVersion", with(params{"LayerName": name, "Content": layerZip}, more))
}

func (s *session) compatible(runtimes ...string) {
	s.note("publish_result", s.publish("testlayer-"+uid(), params{"CompatibleRuntimes": runtimes, "CompatibleArchitectures": []string{"arm64", "x86_64"}}))
}

var python312 = params{"CompatibleRuntimes": []string{"python3.12"}, "CompatibleArchitectures": []string{"x86_64"}}

func layerExceptions(s *session) {
	name, other := "testlayer-"+uid(), "testlayer-"+uid()
	published := s.publish(name, python312)
	s.note("publish_result", published)
	s.note("publish_layer_version_exc_invalid_runtime_arch",
		s.publish(other, params{"CompatibleRuntimes": []string{"invalidruntime"}, "CompatibleArchitectures": []string{"invalidarch"}}))
	s.note("publish_layer_version_exc_partially_invalid_values", s.publish(other, params{
		"CompatibleRuntimes": []string{"invalidruntime", "invalidruntime2", "nodejs20.x"}, "CompatibleArchitectures": []string{"invalidarch", "x86_64"}}))
	s.note("publish_empty_result", s.publish(other, params{"CompatibleRuntimes": []string{}, "CompatibleArchitectures": []string{}}))
	s.note("list_layers_exc_compatibleruntime_invalid", s.call("ListLayers", params{"CompatibleRuntime": "runtimedoesnotexist"}))
	s.note("list_layers_exc_compatiblearchitecture_invalid", s.call("ListLayers", params{"CompatibleArchitecture": "archdoesnotexist"}))
	s.note("list_nonexistent_layer", s.call("ListLayerVersions", params{"LayerName": "layer-that-does-not-exist"}))

	get := func(label, layer string, version int) {
		s.note(label, s.call("GetLayerVersion", params{"LayerName": layer, "VersionNumber": version}))
	}
	get("get_layer_version_exc_layer_doesnotexist", "layerdoesnotexist", 1)
	get("get_layer_version_exc_layer_version_doesnotexist_negative", name, -1)
	get("get_layer_version_exc_layer_version_doesnotexist_zero", name, 0)
	get("get_layer_version_exc_layer_version_doesnotexist_2", name, 2)
	s.note("get_layer_version_by_arn_exc_invalidarn", s.call("GetLayerVersionByArn", params{"Arn": published["LayerArn"]}))
	s.note("get_layer_version_by_arn_exc_nonexistentversion", s.call("GetLayerVersionByArn", params{"Arn": at(published, "LayerArn") + ":2"}))

	remove := func(label, layer string, version int) {
		s.note(label, s.call("DeleteLayerVersion", params{"LayerName": layer, "VersionNumber": version}))
	}
	remove("delete_nonexistent_response", "layerdoesnotexist", 1)
	remove("delete_nonexistent_version_response", name, 2)
	remove("delete_layer_response", name, 1)
	remove("delete_layer_again_response", name, 1)
	remove("delete_layer_version_exc_layerversion_invalid_version", name, -1)
}

func layerFunctionExceptions(s *session) {
	layer, name := "testlayer-"+uid(), "fn-layer-"+uid()
	archs := params{"CompatibleRuntimes": []string{}, "CompatibleArchitectures": []string{"x86_64"}}
	var arns []string
	for _, label := range []string{"publish_result", "publish_result_2", "publish_result_3"} {
		a := s.publish(layer, archs)
		s.note(label, a)
		arns = append(arns, at(a, "LayerVersionArn"))
	}
	s.fixture(name, nil)
	s.note("get_fn_result", s.ok("GetFunction", params{"FunctionName": name}))
	arn := arns[0][:len(arns[0])-2]
	update := func(label string, layers ...string) {
		s.note(label, s.call("UpdateFunctionConfiguration", params{"FunctionName": name, "Layers": layers}))
	}
	update("two_layer_versions_single_function_exc", arns[:2]...)
	update("three_layer_versions_single_function_exc", arns...)
	update("two_identical_layer_versions_single_function_exc", arns[0], arns[0])
	update("add_nonexistent_layer_exc", "arn:aws:lambda:"+region+":"+recordedAccount+":layer:doesnotexist:1")
	update("add_nonexistent_layer_version_exc", arn+":9")
	update("add_layer_arn_without_version_exc", arn)
	elsewhere := params{"Layers": []string{"arn:aws:lambda:eu-central-1:" + recordedAccount + ":layer:" + layer + ":1"}}
	s.note("create_function_with_layer_in_different_region", s.call("CreateFunction", with(valid("fn-layer-"+uid()), elsewhere)))
}

// layerStatement is a permission for everybody to get version n.
func layerStatement(layer, id string, n int) params {
	return params{"LayerName": layer, "VersionNumber": n, "StatementId": id, "Action": "lambda:GetLayerVersion", "Principal": "*"}
}

func layerPolicyExceptions(s *session) {
	layer := "layer4policy-" + uid()
	absent := layer + "-doesnotexist"
	s.note("publish_result", s.publish(layer, python312))
	at1 := params{"LayerName": layer, "VersionNumber": 1}
	s.note("layer_permission_nopolicy_get", s.call("GetLayerVersionPolicy", at1))
	add := func(label string, p params) { s.note(label, s.call("AddLayerVersionPermission", p)) }
	add("add_layer_permission_result", layerStatement(layer, "s1", 1))
	add("layer_permission_action_invalid", with(layerStatement(layer, "s2", 1), params{"Action": "*"}))
	add("layer_permission_duplicate_statement", layerStatement(layer, "s1", 1))
	add("layer_permission_wrong_revision", with(layerStatement(layer, "s2", 1), params{"RevisionId": "wrong"}))
	add("layer_permission_layername_doesnotexist_add", layerStatement(absent, "s1", 1))
	add("layer_permission_layerversion_doesnotexist_add", layerStatement(layer, "s1", 2))
	for suffix, p := range map[string]params{"layername": {"LayerName": absent, "VersionNumber": 1}, "layerversion": {"LayerName": layer, "VersionNumber": 2}} {
		s.note("layer_permission_"+suffix+"_doesnotexist_get", s.call("GetLayerVersionPolicy", p))
		s.note("layer_permission_"+suffix+"_doesnotexist_remove", s.call("RemoveLayerVersionPermission", with(p, params{"StatementId": "s1"})))
	}
	s.note("layer_permission_statementid_doesnotexist_remove", s.call("RemoveLayerVersionPermission", with(at1, params{"StatementId": "doesnotexist"})))
	s.note("layer_permission_wrong_revision_remove", s.call("RemoveLayerVersionPermission", with(at1, params{"StatementId": "s1", "RevisionId": "wrong"})))
}

func layerPolicyLifecycle(s *session) {
	layer := "testlayer-" + uid()
	s.note("publish_result", s.publish(layer, python312))
	at1 := params{"LayerName": layer, "VersionNumber": 1}
	first := s.ok("AddLayerVersionPermission", layerStatement(layer, "s1", 1))
	s.note("add_policy_s1", first)
	s.note("get_layer_version_policy", s.ok("GetLayerVersionPolicy", at1))
	second := s.ok("AddLayerVersionPermission", with(layerStatement(layer, "s2", 1), params{"RevisionId": first["RevisionId"]}))
	s.note("add_policy_s2", second)
	s.note("get_layer_version_policy_postadd2", s.ok("GetLayerVersionPolicy", at1))
	s.note("remove_s2", s.call("RemoveLayerVersionPermission", with(at1, params{"StatementId": "s2", "RevisionId": second["RevisionId"]})))
	s.note("get_layer_version_policy_postdeletes2", s.ok("GetLayerVersionPolicy", at1))
}

// totalCodeSize uploads zips of the recorded sizes: one file, stored, whose text fills the zip.
func totalCodeSize(s *session) {
	last := s.codeSize()
	grown := func(label string) {
		now := s.codeSize()
		s.note(label, now-last)
		last = now
	}
	name, layer := "lambda_func-"+uid(), "testlayer-"+uid()
	code := filled("index.py", 276)
	s.create(name, params{"Code": params{"ZipFile": code}})
	grown("total_code_size_diff_create_function")
	s.ok("UpdateFunctionCode", params{"FunctionName": name, "ZipFile": code, "Publish": true})
	grown("total_code_size_diff_update_function")
	content := params{"Content": params{"ZipFile": filled("testlayer.txt", 169)}}
	s.ok("PublishLayerVersion", with(params{"LayerName": layer}, content))
	grown("total_code_size_diff_publish_layer")
	s.ok("PublishLayerVersion", with(params{"LayerName": layer}, content))
	grown("total_code_size_diff_publish_layer_version")
}

func (s *session) codeSize() float64 {
	usage, _ := s.ok("GetAccountSettings", nil)["AccountUsage"].(map[string]any)
	size, _ := usage["TotalCodeSize"].(float64)
	return size
}
