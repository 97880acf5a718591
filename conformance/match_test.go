package conformance

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

const (
	uuid1 = "11111111-2222-3333-4444-555555555555"
	uuid2 = "66666666-2222-3333-4444-555555555555"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		name, want, got string
		diffs           int
	}{
		{"equal", `{"a":1,"b":[true,null,"x"]}`, `{"b":[true,null,"x"],"a":1}`, 0},
		{"a field too few", `{"a":1,"b":2}`, `{"a":1}`, 1},
		{"a field too many", `{"a":1}`, `{"a":1,"b":2}`, 1},
		{"null is not absent", `{"a":null}`, `{}`, 1},
		{"another value", `{"a":1}`, `{"a":2}`, 1},
		{"another type", `{"a":"1"}`, `{"a":1}`, 1},
		{"another length", `[1,2]`, `[1]`, 1},
		{"an object for a list", `[1]`, `{"a":1}`, 1},
		{"placeholder", `"arn:<partition>:x:<region>"`, `"arn:aws:x:us-east-1"`, 0},
		{"placeholder of another kind", `"<uuid:1>"`, `"not a uuid"`, 1},
		{"number behind a placeholder", `{"CodeSize":"<code-size>"}`, `{"CodeSize":276}`, 0},
		{"no code", `{"CodeSize":"<code-size>"}`, `{"CodeSize":0}`, 1},
		{"same number, same value", `["<uuid:1>","<uuid:1>"]`, `["` + uuid1 + `","` + uuid1 + `"]`, 0},
		{"same number, two values", `["<uuid:1>","<uuid:1>"]`, `["` + uuid1 + `","` + uuid2 + `"]`, 1},
		{"two numbers, same value", `["<uuid:1>","<uuid:2>"]`, `["` + uuid1 + `","` + uuid1 + `"]`, 1},
		{"no number, any values", `["<uuid>","<uuid>"]`, `["` + uuid1 + `","` + uuid2 + `"]`, 0},
		{"repeated letter", `"x<a:len(3)>"`, `"xaaa"`, 0},
		{"JSON in a string", `{"Policy":{"Id":"default"}}`, `{"Policy":"{\"Id\":\"default\"}"}`, 0},
		{"other JSON in a string", `{"Policy":{"Id":"default"}}`, `{"Policy":"{\"Id\":\"other\"}"}`, 1},
		{"date", `{"LastModified":"date"}`, `{"LastModified":"2026-01-02T03:04:05.678+0000"}`, 0},
		{"date in another format", `{"LastModified":"date"}`, `{"LastModified":"2026-01-02T03:04:05Z"}`, 1},
		{"a pattern is text", `"Member must satisfy: [a-z]{2}(x)?"`, `"Member must satisfy: [a-z]{2}(x)?"`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMatcher(nil, nil)
			m.match("answer", "answer", decoded(t, c.want), decoded(t, c.got))
			if len(m.diffs) != c.diffs {
				t.Errorf("differences: %q, want %d", m.diffs, c.diffs)
			}
		})
	}
}

func TestMatchOldRecordings(t *testing.T) {
	m := newMatcher([]string{"SnapStart", "LoggingConfig"}, nil)
	m.match("a", "a", decoded(t, `{"x":1}`), decoded(t, `{"x":1,"SnapStart":{},"LoggingConfig":{}}`))
	if len(m.diffs) != 0 {
		t.Errorf("fields younger than the recording differ: %q", m.diffs)
	}
	m.match("a", "a", decoded(t, `{"x":1}`), decoded(t, `{"x":1,"y":2}`))
	if len(m.diffs) != 1 {
		t.Errorf("differences: %q, want one", m.diffs)
	}
}

// TestAnswer compares answers with what botocore makes of them.
func TestAnswer(t *testing.T) {
	response := func(code int, body string, header ...string) *http.Response {
		r := &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return r
	}
	const metadata = `"ResponseMetadata":{"HTTPHeaders":{},"HTTPStatusCode":`
	for _, c := range []struct {
		op, body string
		res      *http.Response
		want     string
	}{
		{"GetFunction", `{"A":1}`, response(200, ""), `{"A":1,` + metadata + `200}}`},
		{"DeleteFunction", ``, response(204, ""), `{"StatusCode":204,` + metadata + `204}}`},
		{"Invoke", `{}`, response(200, "", "X-Amz-Executed-Version", "$LATEST", "X-Amz-Function-Error", "Unhandled"),
			`{"ExecutedVersion":"$LATEST","FunctionError":"Unhandled","Payload":"{}","StatusCode":200,` + metadata + `200}}`},
		{"GetFunction", `{"Type":"User","Message":"m"}`, response(404, "", "x-amzn-ErrorType", "ResourceNotFoundException"),
			`{"Error":{"Code":"ResourceNotFoundException","Message":"m"},"Message":"m","Type":"User",` + metadata + `404}}`},
		{"GetFunction", `{"message":"m"}`, response(400, "", "x-amzn-ErrorType", "ValidationException"),
			`{"Error":{"Code":"ValidationException","Message":"m"},` + metadata + `400}}`},
		{"GetFunction", `{"message":"m","Type":"User"}`, response(400, "", "x-amzn-ErrorType", "ValidationException"),
			`{"Error":{"Code":"ValidationException","Message":"m"},"Type":"User",` + metadata + `400}}`},
	} {
		if got := answer(c.op, c.res, []byte(c.body)); !reflect.DeepEqual(any(got), decoded(t, c.want)) {
			t.Errorf("%s %s: %v\nwant %s", c.op, c.body, got, c.want)
		}
	}
}

func TestSummary(t *testing.T) {
	got := summary(map[string]any{"Error": map[string]any{"Code": "C", "Message": "2 validation errors detected: Value 'b'; Value 'a'"}})
	if want := decoded(t, `{"Code":"C","Count":2,"Errors":["Value 'a'","Value 'b'"]}`); !reflect.DeepEqual(any(got), want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recordings.json")
	if err := os.WriteFile(file, []byte(`{"id":{"date":"25-11-2022, 02:46:42","answers":{"label":{"a":1}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := read(file)
	if err != nil || len(r["id"].newer()) != len(since) || r["id"].Answers["label"] == nil {
		t.Errorf("read: %v, %v", r, err)
	}
	if _, err := read(file + ".missing"); err == nil {
		t.Error("a missing file is no error")
	}
}
