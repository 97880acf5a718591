package conformance

import "strconv"

func tagScenarios() []scenario {
	return []scenario{
		{id: "api::TestLambdaTag::test_tag_lifecycle[lambda_function]", run: tagLifecycle},
		{id: "api::TestLambdaTag::test_tag_exceptions[lambda_function]", run: tagExceptions},
		{id: "api::TestLambdaTags::test_tag_limits", run: tagLimits},
		{id: "api::TestLambdaTags::test_tag_versions", run: tagVersions},
	}
}

func tagLifecycle(s *session) {
	name := "fn-" + uid()
	s.fixture(name, nil)
	s.tagSteps(functionARN(name))
}

// tagSteps adds, changes and removes the tags of a resource.
func (s *session) tagSteps(arn string) {
	resource := params{"Resource": arn}
	step := func(label, op string, more params) {
		s.note(label, s.ok(op, with(resource, more)))
		s.note(label+"_listtags", s.ok("ListTags", resource))
	}
	step("tag_single_response", "TagResource", params{"Tags": params{"A": "tag-a"}})
	step("tag_multiple_response", "TagResource", params{"Tags": params{"B": "tag-b", "C": "tag-c"}})
	step("tag_overlap_response", "TagResource", params{"Tags": params{"C": "tag-c-newsuffix", "D": "tag-d"}})
	step("untag_single_response", "UntagResource", params{"TagKeys": []string{"A"}})
	step("untag_multiple_response", "UntagResource", params{"TagKeys": []string{"B", "C"}})
	step("untag_nonexisting_response", "UntagResource", params{"TagKeys": []string{"F"}})
	step("untag_existing_and_nonexisting_response", "UntagResource", params{"TagKeys": []string{"D", "F"}})
}

func tagExceptions(s *session) {
	tagExceptionsOf(s, functionARN(""), "nonexistent-"+uid())
}

// tagExceptionsOf names a resource that does not exist; prefix is its ARN without the name.
func tagExceptionsOf(s *session, prefix, name string) {
	resource := params{"Resource": prefix + name}
	tags := params{"Tags": params{"A": "B"}}
	s.note("not_found_exception_tag", s.call("TagResource", with(resource, tags)))
	s.note("not_found_exception_untag", s.call("UntagResource", with(resource, params{"TagKeys": []string{"A"}})))
	s.note("not_found_exception_list", s.call("ListTags", resource))
	s.note("invalid_arn_exception", s.call("TagResource",
		with(tags, params{"Resource": "arn:aws:lambda:" + region + ":" + recordedAccount + ":foobar:" + name})))
	s.note("aliased_arn_exception", s.call("TagResource", with(tags, params{"Resource": prefix + name + ":alias"})))
}

// numbered returns n tags.
func numbered(n int) params {
	tags := params{}
	for i := range n {
		tags[strconv.Itoa(i)+"_key"] = strconv.Itoa(i) + "_value"
	}
	return tags
}

// maxTags is the limit that the recording shows.
const maxTags = 50

func tagLimits(s *session) {
	name := "fn-tag-" + uid()
	s.note("create_function_invalid_tags", s.call("CreateFunction", with(valid(name), params{"Tags": numbered(maxTags + 1)})))
	s.fixture(name, nil)
	resource := params{"Resource": functionARN(name)}
	tag := func(label string, tags params) {
		s.note(label, s.call("TagResource", with(resource, params{"Tags": tags})))
	}
	tag("tag_lambda_too_many_tags", numbered(maxTags+1))
	tag("tag_response", numbered(maxTags))
	s.note("list_tags_response", s.ok("ListTags", resource))
	s.note("get_fn_response", s.ok("GetFunction", params{"FunctionName": name}))
	tag("tag_lambda_too_many_tags_additional", params{"a_key": "a_value"})
}

func tagVersions(s *session) {
	name := "fn-tag-" + uid()
	s.fixture(name, params{"Tags": params{"key_a": "value_a"}})
	published := s.ok("PublishVersion", params{"FunctionName": name})
	tags := params{"Tags": params{"key_b": "value_b", "key_c": "value_c", "key_d": "value_d", "key_e": "value_e"}}
	s.note("tag_resource_exception", s.call("TagResource", with(tags, params{"Resource": published["FunctionArn"]})))
	s.note("tag_resource_latest_exception", s.call("TagResource", with(tags, params{"Resource": functionARN(name) + ":$LATEST"})))
}
