package conformance

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

func logScenarios() []scenario {
	return []scenario{
		{id: "runtimes::TestCloudwatchLogs::test_multi_line_prints", runtime: "python3.13", run: multiLine,
			kinds: map[string]string{"version": `\w+`, "runtime-id": `[0-9a-f]+`, "log-stream-name": `[^\s]+`}},
	}
}

const multiLinePrints = "def handler(event, context):\n    print('multi\\nline\\nstring')\n    print('another\\rline')\n"

func multiLine(s *session) {
	name := "test-function-" + uid()
	s.fixture(name, params{"Runtime": "python3.13", "Code": params{"ZipFile": zipped("handler.py", multiLinePrints)}})
	s.ok("Invoke", params{"FunctionName": name, "Payload": []byte("{}")})
	var events []any
	for deadline := time.Now().Add(waitLimit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if events = s.logEvents("/aws/lambda/" + name); len(events) > 0 && strings.HasPrefix(at(events[len(events)-1], "message"), "REPORT") {
			break
		}
	}
	for _, e := range events { // the version of the runtime that stands in
		event := e.(map[string]any)
		event["message"] = strings.Replace(at(e, "message"), "python:"+version(s.target.Runtimes["python3.13"])+".", "python:3.13.", 1)
	}
	s.note("log-events", events)
}

// logEvents asks CloudWatch Logs' API, on the same port, for the events of a group.
func (s *session) logEvents(group string) []any {
	s.Helper()
	body, _ := json.Marshal(map[string]string{"logGroupName": group})
	r, err := http.NewRequestWithContext(s.Context(), http.MethodPost, s.target.URL+"/", strings.NewReader(string(body)))
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "Logs_20140328.FilterLogEvents")
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if s.target.Sign != nil {
		if err := s.target.Sign(r, body); err != nil {
			s.Fatal(err)
		}
	}
	res, err := s.http.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	var answer map[string]any
	err = json.NewDecoder(res.Body).Decode(&answer)
	if err == nil && answer["__type"] == "ResourceNotFoundException" {
		return nil // nothing was logged yet
	}
	if err != nil || res.StatusCode != http.StatusOK {
		s.Fatalf("FilterLogEvents: %s %v %v", res.Status, answer, err)
	}
	events, _ := s.normalise(answer["events"]).([]any)
	return events
}
