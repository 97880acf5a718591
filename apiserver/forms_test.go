package apiserver_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"berth/lambda"
)

// TestNameForms gives every operation its function by name and by ARNs, and by ARNs of elsewhere.
func TestNameForms(t *testing.T) {
	p := newProber(t)
	tested := 0
	for name, op := range p.model.Operations {
		if op.Input == nil || slices.Contains(unbuilt, name) || slices.Contains(refusing, name) || name == "CreateFunction" {
			continue
		}
		if _, named := p.model.Shapes[op.Input.Shape].Members["FunctionName"]; !named {
			continue
		}
		tested++
		send := func(form string) *httptest.ResponseRecorder {
			p.ensure()
			in := p.valid(name, p.model.Shapes[op.Input.Shape])
			in["FunctionName"] = form
			if name == "UpdateEventSourceMapping" {
				in["UUID"] = p.mapping
			}
			return p.send(name, in)
		}
		for _, form := range []string{"probe", prefix + "probe", "000000000001:function:probe", "function:probe"} {
			if answer := send(form); answer.Code >= 300 {
				t.Errorf("%s of %s: %d %s", name, form, answer.Code, answer.Body)
			}
		}
		for form, want := range map[string]struct {
			status int
			code   lambda.Code
		}{
			strings.Replace(prefix, region, "eu-central-1", 1) + "probe":         {404, lambda.ResourceNotFound},
			strings.Replace(prefix, "000000000001", "123456789012", 1) + "probe": {403, lambda.AccessDenied},
			"arn:aws:s3:::probe": {400, lambda.Validation},
			prefix + "probe:1:2": {400, lambda.Validation},
			"not a name":         {400, lambda.Validation},
		} {
			if answer := send(form); answer.Code != want.status || answer.Header().Get("X-Amzn-Errortype") != string(want.code) {
				t.Errorf("%s of %s: %d %s, want %d %s", name, form, answer.Code, answer.Body, want.status, want.code)
			}
		}
	}
	if tested == 0 {
		t.Error("no operation takes a function's name")
	}
}

// TestRevisionIDs: every operation that takes a RevisionId refuses a wrong one, and takes the right one.
func TestRevisionIDs(t *testing.T) {
	p := newProber(t)
	tested := 0
	for name, op := range p.model.Operations {
		if op.Input == nil || slices.Contains(unbuilt, name) {
			continue
		}
		if _, guarded := p.model.Shapes[op.Input.Shape].Members["RevisionId"]; !guarded {
			continue
		}
		tested++
		send := func(revision string) *httptest.ResponseRecorder {
			p.ensure()
			in := p.valid(name, p.model.Shapes[op.Input.Shape])
			if revision == "" {
				revision = p.revision(name, in)
			}
			in["RevisionId"] = revision
			return p.send(name, in)
		}
		if answer := send("12345678-1234-1234-1234-123456789012"); answer.Code != http.StatusPreconditionFailed ||
			answer.Header().Get("X-Amzn-Errortype") != string(lambda.PreconditionFailed) {
			t.Errorf("%s with a wrong RevisionId: %d %s", name, answer.Code, answer.Body)
		}
		if answer := send(""); answer.Code >= 300 {
			t.Errorf("%s with the right RevisionId: %d %s", name, answer.Code, answer.Body)
		}
	}
	if tested < 8 {
		t.Errorf("%d operations take a RevisionId, at least 8 are known", tested)
	}
}

// revision asks for the RevisionId of what an operation changes.
func (p *prober) revision(op string, in map[string]any) string {
	p.Helper()
	read := "GetFunctionConfiguration"
	switch {
	case strings.Contains(op, "Layer"):
		read = "GetLayerVersionPolicy"
	case strings.Contains(op, "Permission"):
		read = "GetPolicy"
	case strings.Contains(op, "Alias"):
		read = "GetAlias"
	}
	ask := map[string]any{}
	for name := range p.model.Shapes[p.model.Operations[read].Input.Shape].Members {
		if v, ok := in[name]; ok {
			ask[name] = v
		}
	}
	id, _ := p.must(read, ask)["RevisionId"].(string)
	return id
}

// TestTooLarge: a request that says it is too large is refused before it is read.
func TestTooLarge(t *testing.T) {
	f := start(t)
	for _, c := range []struct{ op, method, path, text string }{
		{"CreateFunction", "POST", "/2015-03-31/functions", "Request must be smaller than 70167211 bytes for the CreateFunction operation"},
		{"UpdateFunctionCode", "PUT", "/2015-03-31/functions/f/code", "for the UpdateFunctionCode operation"},
		{"PublishLayerVersion", "POST", "/2018-10-31/layers/l/versions", "for the PublishLayerVersion operation"},
		{"TagResource", "POST", "/2017-03-31/tags/x", "for the TagResource operation"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, f.URL+c.path, strings.NewReader(strings.Repeat(" ", 1<<16)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 later") // the size is looked at first
		w := httptest.NewRecorder()
		r.ContentLength = 1 << 30
		f.server.ServeHTTP(w, r)
		if w.Code != http.StatusRequestEntityTooLarge || w.Header().Get("X-Amzn-Errortype") != string(lambda.RequestEntityTooLarge) || !strings.Contains(w.Body.String(), c.text) {
			t.Errorf("%s: %d %s", c.op, w.Code, w.Body)
		}
	}
}
