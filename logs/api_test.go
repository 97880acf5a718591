package logs

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
)

func serve(t testing.TB, s *Store) *httptest.Server {
	api := &API{Store: s, Region: "us-east-1"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !api.Handles(r) {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		api.Serve(w, r, account, body)
	}))
	t.Cleanup(server.Close)
	return server
}

func TestAPI(t *testing.T) {
	s := open(t, Config{})
	s.Append(account, group, event(1, "a", "one ERROR\n"), event(2, "b", "two\n"), event(3, "a", "three ERROR\n"))
	server := serve(t, s)
	for _, tt := range []struct {
		operation, input string
		status           int
		output           string // part of it
	}{
		{"FilterLogEvents", `{"logGroupName":"/aws/lambda/hello"}`, 200, `{"events":[{"logStreamName":"a","timestamp":1800000000001,"message":"one ERROR\n","ingestionTime":`},
		{"FilterLogEvents", `{"logGroupName":"/aws/lambda/hello"}`, 200, `"searchedLogStreams":[]}`},
		{"FilterLogEvents", `{"logGroupIdentifier":"arn:aws:logs:us-east-1:000000000001:log-group:/aws/lambda/hello:*","filterPattern":"ERROR -one"}`, 200, `{"events":[{"logStreamName":"a","timestamp":1800000000003,`},
		{"FilterLogEvents", `{"logGroupName":"/aws/lambda/hello","startTime":1800000000002,"endTime":1800000000002}`, 200, `{"events":[{"logStreamName":"b"`},
		{"FilterLogEvents", `{"logGroupName":"/aws/lambda/hello","startTime":1800000000009}`, 200, `{"events":[],"searchedLogStreams":[]}`},
		{"FilterLogEvents", `{"logGroupName":"none"}`, 400, `{"__type":"ResourceNotFoundException","message":"The specified log group does not exist."}`},
		{"FilterLogEvents", `{"logGroupIdentifier":"arn:aws:logs:us-east-1:000000000002:log-group:/aws/lambda/hello"}`, 400, `ResourceNotFoundException`},
		{"FilterLogEvents", `{"logGroupName":"/aws/lambda/hello","nextToken":"%%"}`, 400, `The specified nextToken is invalid.`},
		{"FilterLogEvents", `{"logGroupName":"bad name"}`, 400, `InvalidParameterException`},
		{"FilterLogEvents", `{"logGroupName":"/aws/lambda/hello","limit":10001}`, 400, `between 1 and 10000`},
		{"FilterLogEvents", `{"logGroupName":"/aws/lambda/hello","filterPattern":"{ $.x = 1 }"}`, 400, `not supported`},
		{"FilterLogEvents", `{}`, 400, `Exactly one of`},
		{"FilterLogEvents", `[`, 400, `SerializationException`},
		{"GetLogEvents", `{"logGroupName":"/aws/lambda/hello","logStreamName":"a","limit":1}`, 200, `{"events":[{"timestamp":1800000000003,`},
		{"GetLogEvents", `{"logGroupName":"/aws/lambda/hello","logStreamName":"a","limit":1,"startFromHead":true}`, 200, `{"events":[{"timestamp":1800000000001,`},
		{"GetLogEvents", `{"logGroupName":"/aws/lambda/hello","logStreamName":"none"}`, 400, `The specified log stream does not exist.`},
		{"DescribeLogStreams", `{"logGroupName":"/aws/lambda/hello","orderBy":"LastEventTime","descending":true,"limit":1}`, 200, `{"logStreams":[{"logStreamName":"a",`},
		{"DescribeLogStreams", `{"logGroupName":"/aws/lambda/hello","orderBy":"X"}`, 400, `enum value set`},
		{"DescribeLogGroups", `{"logGroupNamePrefix":"/aws/"}`, 200, `"arn":"arn:aws:logs:us-east-1:000000000001:log-group:/aws/lambda/hello:*"`},
		{"DescribeLogGroups", ``, 200, `"logGroupName":"/aws/lambda/hello"`},
		{"CreateLogGroup", `{"logGroupName":"new"}`, 200, ``},
		{"CreateLogGroup", `{"logGroupName":"new"}`, 400, `ResourceAlreadyExistsException`},
		{"DeleteLogGroup", `{"logGroupName":"new"}`, 200, ``},
		{"DeleteLogGroup", `{"logGroupName":"new"}`, 400, `ResourceNotFoundException`},
		{"PutLogEvents", `{}`, 400, `UnknownOperationException`},
	} {
		req, _ := http.NewRequest("POST", server.URL, strings.NewReader(tt.input))
		req.Header.Set("X-Amz-Target", targetPrefix+tt.operation)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || !strings.Contains(string(body), tt.output) || tt.output == "" && len(body) > 0 ||
			(tt.status != 200) != (resp.Header.Get("X-Amzn-Errortype") != "") {
			t.Errorf("%s %s: %d %s; want %d …%s…", tt.operation, tt.input, resp.StatusCode, body, tt.status, tt.output)
		}
	}
}

func TestPattern(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "yyyy", "ERROR": "yny" + "n", `"ERROR two"`: "nny" + "n", "ERROR -one": "nny" + "n", "?one ?three": "yny" + "n", "error": "nnnn", "-ERROR": "nyny", "ERROR two": "nny" + "n",
	} {
		match, err := parsePattern(pattern)
		got := ""
		for _, m := range []string{"ERROR one", "nothing", "ERROR two three", ""} {
			got += map[bool]string{true: "y", false: "n"}[match == nil || match(m)]
		}
		if err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", pattern, got, err, want)
		}
	}
	for _, pattern := range []string{"{ $.a = 1 }", "[a, b]", "%x%", `"open`} {
		if _, err := parsePattern(pattern); err == nil {
			t.Errorf("%q was taken", pattern)
		}
	}
}

// script reads the same logs as boto3 users do.
const script = `
import sys, botocore.session
s = botocore.session.Session()
s.set_credentials("AKIAIOSFODNN7EXAMPLE", "secret")
c = s.create_client("logs", region_name="us-east-1", endpoint_url=sys.argv[1])
g = "/aws/lambda/hello"
got = [e["message"] for p in c.get_paginator("filter_log_events").paginate(logGroupName=g, PaginationConfig={"PageSize": 7}) for e in p["events"]]
assert len(got) == 100 and got == sorted(got), got
got, token = [], {"startFromHead": True}
while True:
    p = c.get_log_events(logGroupName=g, logStreamName="s1", limit=7, **token)
    if token.get("nextToken") == p["nextForwardToken"]: break
    got += [e["message"] for e in p["events"]]
    token = {"nextToken": p["nextForwardToken"]}
assert len(got) == 50, got
streams = [st["logStreamName"] for p in c.get_paginator("describe_log_streams").paginate(logGroupName=g, PaginationConfig={"PageSize": 1}) for st in p["logStreams"]]
assert streams == ["s0", "s1"], streams
groups = [x["logGroupName"] for p in c.get_paginator("describe_log_groups").paginate(PaginationConfig={"PageSize": 1}) for x in p["logGroups"]]
assert groups == [g, "/aws/lambda/other"], groups
try: c.delete_log_group(logGroupName="none"); assert False
except c.exceptions.ResourceNotFoundException as e: assert "does not exist" in str(e)
c.delete_log_group(logGroupName="/aws/lambda/other")
`

func TestBotocoreReads(t *testing.T) {
	if out, err := exec.Command("python3", "-c", "import botocore").CombinedOutput(); err != nil {
		t.Skipf("needs python3 with botocore: %s", strings.TrimSpace(string(out)))
	}
	s := open(t, Config{})
	for i := range 100 {
		s.Append(account, group, event(int64(i), fmt.Sprint("s", i%2), fmt.Sprintf("%03d\n", i)))
	}
	s.Append(account, "/aws/lambda/other", event(1, "s", "x"))
	if out, err := exec.Command("python3", "-c", script, serve(t, s).URL).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
