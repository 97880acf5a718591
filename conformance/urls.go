package conformance

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const urlTests = "api::TestLambdaUrl::"

func urlScenarios() []scenario {
	all := []scenario{
		{id: urlTests + "test_url_config_lifecycle", run: urlLifecycle},
		{id: urlTests + "test_url_config_exceptions", run: urlExceptions},
		{id: urlTests + "test_url_config_deletion_without_qualifier", run: urlDeletion},
		{id: "invoke::TestRequestIdHandling::test_request_id_invoke_url", runtime: "python3.12", run: urlRequestID},
	}
	for name, value := range map[string]string{
		"boolean": "True", "dict": `{"hello": "world"}`, "float": "3.1", "http-response": `{"statusCode": 200, "body": "body123"}`,
		"http-response-json": `{"statusCode": 200, "body": "{\"hello\": \"world\"}"}`,
	} {
		all = append(all, scenario{id: "invoke::TestLambdaURL::test_lambda_url_invocation[" + name + "]", runtime: "python3.12",
			run: func(s *session) { urlAnswers(s, value) }})
	}
	for name, mode := range map[string]string{"None": "", "RESPONSE_STREAM": "RESPONSE_STREAM"} {
		all = append(all, scenario{id: "invoke::TestLambdaURL::test_lambda_url_echo_invoke[" + name + "]", runtime: "nodejs20.x",
			run: func(s *session) { urlEcho(s, mode) }})
	}
	return all
}

func urlLifecycle(s *session) {
	fn := params{"FunctionName": "fn-" + uid()}
	s.fixture(fn["FunctionName"].(string), nil)
	auth := with(fn, params{"AuthType": "NONE"})
	s.note("url_creation", s.ok("CreateFunctionUrlConfig", auth))
	s.note("failed_duplication", s.call("CreateFunctionUrlConfig", auth))
	s.note("get_url_config", s.ok("GetFunctionUrlConfig", fn))
	s.note("updated_url_config", s.ok("UpdateFunctionUrlConfig", with(fn, params{"AuthType": "AWS_IAM"})))
	s.ok("DeleteFunctionUrlConfig", fn)
	s.note("failed_getter", s.call("GetFunctionUrlConfig", fn))
}

func urlDeletion(s *session) {
	const alias = "test-alias"
	fn := params{"FunctionName": "fn-" + uid()}
	s.fixture(fn["FunctionName"].(string), nil)
	s.ok("CreateAlias", with(fn, params{"Name": alias, "FunctionVersion": "$LATEST"}))
	qualified := with(fn, params{"Qualifier": alias})
	s.note("url_creation", s.ok("CreateFunctionUrlConfig", with(fn, params{"AuthType": "NONE"})))
	s.note("url_with_alias_creation", s.ok("CreateFunctionUrlConfig", with(qualified, params{"AuthType": "NONE"})))
	s.note("get_url_config", s.ok("GetFunctionUrlConfig", fn))
	s.note("get_url_config_with_alias", s.ok("GetFunctionUrlConfig", qualified))
	s.note("delete_function_url_config", s.ok("DeleteFunctionUrlConfig", fn))
	s.note("get_url_config_after_deletion", s.call("GetFunctionUrlConfig", fn))
	s.note("get_url_config_with_alias_after_deletion", s.ok("GetFunctionUrlConfig", qualified))
}

func urlExceptions(s *session) {
	name := "fn-" + uid()
	fn := params{"FunctionName": name}
	s.fixture(name, params{"Handler": "lambda_handler.handler", "Runtime": "nodejs20.x"})
	published := s.ok("PublishVersion", fn)
	version := at(published, "Version")
	s.waitVersion(name, version)
	s.note("fn_version_result", s.ok("GetFunctionConfiguration", with(fn, params{"Qualifier": version})))
	created := s.answers["fn_version_result"].(map[string]any) // the recorder published a function that was Active already
	created["ResponseMetadata"].(map[string]any)["HTTPStatusCode"] = float64(http.StatusCreated)
	s.note("create_alias_result", s.ok("CreateAlias", with(fn, params{"Name": "urlalias", "FunctionVersion": version})))

	for prefix, op := range map[string]string{"create": "CreateFunctionUrlConfig", "get": "GetFunctionUrlConfig", "update": "UpdateFunctionUrlConfig", "delete": "DeleteFunctionUrlConfig"} {
		try := func(label string, p params) {
			if prefix == "create" || prefix == "update" {
				p = with(p, params{"AuthType": "NONE"})
			}
			s.note(prefix+"_function_url_config_"+label, s.call(op, p))
		}
		try("name_doesnotexist", params{"FunctionName": "doesnotexist"})
		try("arn_doesnotexist", params{"FunctionName": functionARN("doesnotexist")})
		try("name_doesnotexist_qualifier", params{"FunctionName": "doesnotexist", "Qualifier": "1"})
		try("qualifier_version", params{"FunctionName": name, "Qualifier": "1"})
		try("qualifier_version_doesnotexist", params{"FunctionName": name, "Qualifier": "2"})
		try("qualifier_alias_doesnotexist", params{"FunctionName": name, "Qualifier": "doesnotexist"})
		try("qualifier_alias_doesnotmatch_arn", params{"FunctionName": functionARN(name) + ":doesnotexist", "Qualifier": "urlalias"})
		try("qualifier_latest", params{"FunctionName": name, "Qualifier": "$LATEST"})
		if prefix != "create" {
			try("config_doesnotexist", fn)
		}
	}
	// The service itself failed here when it was recorded: there is no answer to compare with.
	s.note("delete_function_url_config_qualifier_alias_doesnotmatch_arn", "<aws_internal_failure>")
}

// withURL makes a function that anyone may call under a URL, and returns the URL.
func (s *session) withURL(name string, more params) string {
	s.Helper()
	created := s.ok("CreateFunctionUrlConfig", with(params{"FunctionName": name, "AuthType": "NONE"}, more))
	s.note("create_lambda_url_config", created)
	s.note("add_permission", s.ok("AddPermission", params{"FunctionName": name, "StatementId": "urlPermission",
		"Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE"}))
	return at(created, "FunctionUrl")
}

// fetch sends a request to a function URL, at the target's address: hosts look up names under localhost in different ways.
func (s *session) fetch(functionURL, rest, contentType, body string) (*http.Response, string) {
	s.Helper()
	u, err := url.Parse(functionURL)
	if err != nil {
		s.Fatal(err)
	}
	r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.target.URL+"/"+rest, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	r.Host = u.Host
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	res, err := s.http.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return res, string(text)
}

const customPath = "custom_path/extend?test_param=test_value"

func urlAnswers(s *session, value string) {
	name := "test-function-" + uid()
	s.fixture(name, params{"Code": params{"ZipFile": zipped("handler.py", "def handler(event, ctx):\n    return "+value+"\n")}})
	res, text := s.fetch(s.withURL(name, nil), customPath, "", "{'key':'value'}")
	s.note("lambda_url_invocation", map[string]any{"statuscode": float64(res.StatusCode), "content": text,
		"headers": map[string]any{"Content-Type": res.Header.Get("Content-Type"), "Content-Length": res.Header.Get("Content-Length")}})
}

const nodeURLEcho = "exports.handler = async (event) => ({ statusCode: 200, body: JSON.stringify({ event }) });\n"

// urlEcho also checks what the recorded test asserts without recording it.
func urlEcho(s *session, mode string) {
	name := "test-fnurl-echo-" + uid()
	s.create(name, params{"Runtime": "nodejs20.x", "Handler": "index.handler", "Code": params{"ZipFile": zipped("index.js", nodeURLEcho)}})
	var more params
	if mode != "" {
		more = params{"InvokeMode": mode}
	}
	target := s.withURL(name, more)
	res, text := s.fetch(target, customPath, "text/plain", "text")
	if mode == "RESPONSE_STREAM" { // what was not streamed is not interpreted either
		var raw struct{ Body string }
		if err := json.Unmarshal([]byte(text), &raw); err != nil {
			s.Fatalf("%v: %.500s", err, text)
		}
		text = raw.Body
	}
	var answer struct {
		Event struct {
			Body            *string
			IsBase64Encoded *bool
			RequestContext  struct{ AccountId string }
		}
	}
	err := json.Unmarshal([]byte(text), &answer)
	if e := answer.Event; err != nil || res.StatusCode != http.StatusOK || e.Body == nil || *e.Body != "text" || e.IsBase64Encoded == nil || *e.IsBase64Encoded ||
		e.RequestContext.AccountId != "anonymous" {
		s.Fatalf("%s %v %.1000s", strconv.Itoa(res.StatusCode), err, text)
	}
}

func urlRequestID(s *session) {
	name := "test-function-" + uid()
	s.fixture(name, params{"Code": params{"ZipFile": zipped("handler.py", "def handler(event, ctx):\n    print('hi')\n    return 'hi'\n")}})
	res, text := s.fetch(s.withURL(name, nil), "", "", "")
	s.note("lambda_url_invocation", map[string]any{"statuscode": float64(res.StatusCode), "content": text,
		"headers": map[string]any{"x-amzn-RequestId": res.Header.Get("x-amzn-RequestId")}})
	var ends []any
	for deadline := time.Now().Add(waitLimit); len(ends) == 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, e := range s.logEvents("/aws/lambda/" + name) {
			if line := strings.TrimSpace(at(e, "message")); strings.HasPrefix(line, "END RequestId") {
				ends = append(ends, line)
			}
		}
	}
	s.note("end_log_entries", ends)
}
