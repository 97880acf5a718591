package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"berth/apimodel"
	"berth/catalog"
	"berth/lambda"
	"berth/store"
)

func TestReadBody(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	for name, c := range map[string]struct {
		body     []byte
		declared int64
		limit    int64
		size     int64 // -1: an error
	}{
		"empty":                {nil, 0, 10, 0},
		"declared":             {big, int64(len(big)), 1 << 20, int64(len(big))},
		"at the limit":         {big, int64(len(big)), int64(len(big)), int64(len(big))},
		"declared too large":   {big, int64(len(big)), 100, int64(len(big))},
		"undeclared":           {big, -1, 1 << 20, int64(len(big))},
		"undeclared, at limit": {big, -1, int64(len(big)), int64(len(big))},
		"undeclared too large": {big, -1, 100, 101},
		"undeclared and empty": {nil, -1, 100, 0},
		"ends early":           {big[:1000], int64(len(big)), 1 << 20, -1},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{ContentLength: c.declared, Body: io.NopCloser(iotest.HalfReader(bytes.NewReader(c.body)))}
			body, size, err := readBody(r, c.limit)
			if (err != nil) != (c.size < 0) || err == nil && size != c.size {
				t.Fatalf("size %d, %v", size, err)
			}
			if err == nil && size <= c.limit && !bytes.Equal(body, c.body) {
				t.Fatalf("%d bytes of %d", len(body), len(c.body))
			}
			if size > c.limit && body != nil {
				t.Fatal("kept a body that is too large")
			}
		})
	}
}

func TestTraceID(t *testing.T) {
	made := traceID("", "0e0ad0aa-d8d7-415d-883f-2f23e9bfaeb1")
	if len(made) != len("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=0") || strings.Contains(made, "000000000000") {
		t.Fatal(made)
	}
	if given := traceID("Root=1-x;Sampled=1", ""); given != "Root=1-x;Sampled=1" {
		t.Fatal(given)
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{"", "{", "nul", "\xff", `{"a":1,}`, "[1 2]", "\"\\u12", "{} {}", "tru\xc3", "\n\n'"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		err := checkJSON(payload)
		if valid := json.Valid(payload) && utf8.Valid(payload); valid != (err == nil) {
			t.Fatalf("%q: %v", payload, err)
		}
		if err != nil && !utf8.ValidString(err.Error()) {
			t.Fatalf("message %q is not UTF-8", err.Error())
		}
	})
}

func TestPreparationsThatNeverWorkAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, w := newPreparation(), catalog.Work{Number: lambda.Latest}
		for range int(giveUpAfter/sweepPause) + 1 {
			if p.hopeless(w, true) {
				t.Fatal("given up too early")
			}
			time.Sleep(sweepPause - time.Millisecond)
		}
		time.Sleep(sweepPause)
		if !p.hopeless(w, true) {
			t.Fatal("not given up")
		}
		if p.hopeless(w, true) || p.hopeless(w, false) || len(p.failing) != 0 {
			t.Fatal("the next try does not begin anew")
		}
	})
}

// A full disk is what an operator can do something about, so it is said; other failures of ours are in the log only.
func TestAFullDiskIsSaid(t *testing.T) {
	model, err := apimodel.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("storing a blob: %w: /var/x has 0 MiB free", store.ErrFull), "The server's disk is full"},
		{errors.New("disk /var/x broke"), "An internal error occurred"},
	} {
		s := &Server{model: model, log: slog.New(slog.DiscardHandler)}
		w := httptest.NewRecorder()
		s.fail(&call{r: httptest.NewRequest("POST", "/", nil), w: w}, c.err)
		if body := w.Body.String(); w.Code != 500 || !strings.Contains(body, c.want) || strings.Contains(body, "/var/x") {
			t.Errorf("%v: %d %s", c.err, w.Code, body)
		}
	}
}
