package functionurl

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestInterpret(t *testing.T) {
	jsonHeader := http.Header{"Content-Type": {"application/json"}}
	for payload, want := range map[string]Response{
		`{"hello": "world"}`:                     {200, jsonHeader, []byte(`{"hello":"world"}`)}, // recorded
		`{"statusCode": 200, "body": "body123"}`: {200, jsonHeader, []byte("body123")},           // recorded
		`true`:                                   {200, jsonHeader, []byte("true")},              // recorded
		`"a\u00fc\n"`:                            {200, jsonHeader, []byte("aü\n")},
		`null`:                                   {200, jsonHeader, []byte("null")},
		`[1, {"statusCode": 5}]`:                 {200, jsonHeader, []byte(`[1,{"statusCode":5}]`)},
		`not JSON`:                               {200, jsonHeader, []byte("not JSON")},
		``:                                       {200, jsonHeader, []byte("")},
		`{"StatusCode":500,"body":"x"}`:          {200, jsonHeader, []byte(`{"StatusCode":500,"body":"x"}`)},
		`{"headers":"none of HTTP"}`:             {200, jsonHeader, []byte(`{"headers":"none of HTTP"}`)},
		`{"statusCode":"418"}`:                   {418, jsonHeader, nil}, // as the service's own tests have it
		`{"statusCode":204,"body":null,"headers":null,"cookies":null}`:                                   {204, jsonHeader, nil},
		`{"statusCode":201,"body":{"a": 1}}`:                                                             {201, jsonHeader, []byte(`{"a": 1}`)},
		`{"statusCode":200,"body":"AAEC","isBase64Encoded":true,"headers":{"content-type":"image/png"}}`: {200, http.Header{"Content-Type": {"image/png"}}, []byte{0, 1, 2}},
		`{"statusCode":302,"headers":{"location":"/x","x-n":7,"x-b":true,"x-none":null,"connection":"close","content-length":"9","WWW-Authenticate":"Basic","x-amzn-requestid":"mine","access-control-allow-origin":"*"},"cookies":["a=1","b=2; HttpOnly"]}`: {
			302, http.Header{"Content-Type": {"application/json"}, "Location": {"/x"}, "X-N": {"7"}, "X-B": {"true"}, "Set-Cookie": {"a=1", "b=2; HttpOnly"},
				"X-Amzn-Remapped-Connection": {"close"}, "X-Amzn-Remapped-Content-Length": {"9"}, "X-Amzn-Remapped-Www-Authenticate": {"Basic"},
				"Access-Control-Allow-Origin": {"*"}}, nil},
	} {
		got, err := Interpret([]byte(payload))
		if err != nil || got.Status != want.Status || !reflect.DeepEqual(got.Header, want.Header) || string(got.Body) != string(want.Body) {
			t.Errorf("%s: %+v, %v", payload, got, err)
		}
	}
}

func TestNoResponses(t *testing.T) {
	for payload, reason := range map[string]string{
		`{"statusCode":99}`:                                             "from 200 to 599",
		`{"statusCode":101}`:                                            "from 200 to 599",
		`{"statusCode":600}`:                                            "from 200 to 599",
		`{"statusCode":200.5}`:                                          "from 200 to 599",
		`{"statusCode":null}`:                                           "from 200 to 599",
		`{"statusCode":"x"}`:                                            "from 200 to 599",
		`{"statusCode":"NaN"}`:                                          "from 200 to 599",
		`{"statusCode":{}}`:                                             "from 200 to 599",
		`{"statusCode":200,"headers":[]}`:                               "headers",
		`{"statusCode":200,"headers":{"a":{}}}`:                         `"a"`,
		`{"statusCode":200,"headers":{"a b":"c"}}`:                      `"a b"`,
		`{"statusCode":200,"headers":{"":"c"}}`:                         "HTTP does not allow",
		`{"statusCode":200,"headers":{"a":"b\r\nSet-Cookie: c"}}`:       "HTTP does not allow",
		`{"statusCode":200,"cookies":["a\nb"]}`:                         "HTTP does not allow",
		`{"statusCode":200,"cookies":"a"}`:                              "cookies",
		`{"statusCode":200,"isBase64Encoded":"yes"}`:                    "isBase64Encoded",
		`{"statusCode":200,"isBase64Encoded":true,"body":"not base64"}`: "no base64",
	} {
		if got, err := Interpret([]byte(payload)); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %+v, %v", payload, got, err)
		}
	}
}

func TestHead(t *testing.T) {
	end := strings.Repeat("\x00", 8)
	var h Head
	if r := h.Begin("text/html"); r == nil || r.Status != 200 || r.Header.Get("Content-Type") != "text/html" {
		t.Errorf("%+v", r)
	}
	if r := new(Head).Begin(""); r.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%+v", r)
	}
	for _, size := range []int{1, 3, 1000} { // in parts of that size
		var h Head
		if r := h.Begin(IntegrationType); r != nil {
			t.Fatalf("%+v", r)
		}
		text := `{"statusCode":201,"headers":{"content-type":"text/css","x":"y"},"cookies":["a=b"]}` + end + "body\x00"
		var got *Response
		var err error
		for got == nil && err == nil && text != "" {
			n := min(size, len(text))
			got, err = h.Take([]byte(text[:n]))
			text = text[n:]
		}
		if err != nil || got.Status != 201 || got.Header.Get("Content-Type") != "text/css" || got.Header.Get("X") != "y" || got.Header.Get("Set-Cookie") != "a=b" ||
			string(got.Body)+text != "body\x00" {
			t.Errorf("%d: %+v %v", size, got, err)
		}
	}
	for text, ok := range map[string]bool{"{}" + end: true, "null" + end: true, "{" + end: false, "[]" + end: false, end: false, `{"statusCode":7}` + end: false,
		strings.Repeat(" ", 65<<10): false, strings.Repeat(" ", 65<<10) + end: false} {
		var h Head
		h.Begin(IntegrationType)
		if got, err := h.Take([]byte(text)); (err == nil) != ok || ok && (got.Status != 200 || got.Header.Get("Content-Type") != "application/octet-stream") {
			t.Errorf("%.40q: %+v, %v", text, got, err)
		}
	}
}

func TestCORS(t *testing.T) {
	yes, age := true, 600
	c := CORS{AllowOrigins: []string{"https://a.example", "https://b.example"}, AllowMethods: []string{"GET", "PUT"}, AllowHeaders: []string{"x-a", "x-b"},
		ExposeHeaders: []string{"date"}, MaxAge: &age, AllowCredentials: &yes}
	preflight := request("OPTIONS", "http://x/", "", "Origin", "https://b.example", "Access-Control-Request-Method", "PUT")
	if !IsPreflight(preflight) || IsPreflight(request("OPTIONS", "http://x/", "", "Origin", "o")) || IsPreflight(request("GET", "http://x/", "", "Origin", "o", "Access-Control-Request-Method", "PUT")) {
		t.Error("preflights are told apart wrongly")
	}
	h := http.Header{}
	c.Preflight(h, preflight)
	if want := (http.Header{"Access-Control-Allow-Origin": {"https://b.example"}, "Access-Control-Allow-Credentials": {"true"}, "Access-Control-Allow-Methods": {"GET,PUT"},
		"Access-Control-Allow-Headers": {"x-a,x-b"}, "Access-Control-Max-Age": {"600"}, "Vary": {"Origin"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("%v", h)
	}
	h = http.Header{"Access-Control-Allow-Origin": {"*"}, "Access-Control-Anything": {"x"}}
	c.Apply(h, request("GET", "http://x/", "", "Origin", "https://evil.example"))
	if want := (http.Header{"Vary": {"Origin"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("%v", h)
	}
	h = http.Header{}
	c.Apply(h, request("GET", "http://x/", "", "Origin", "https://a.example"))
	if h.Get("Access-Control-Expose-Headers") != "date" || h.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("%v", h)
	}
	h = http.Header{}
	(&CORS{AllowOrigins: []string{"*"}}).Apply(h, request("GET", "http://x/", "", "Origin", "https://a.example"))
	if want := (http.Header{"Access-Control-Allow-Origin": {"*"}}); !reflect.DeepEqual(h, want) {
		t.Errorf("%v", h)
	}
}

func FuzzInterpret(f *testing.F) {
	for _, s := range []string{`{"statusCode":200,"headers":{"a":"b"},"cookies":["c"],"body":"d","isBase64Encoded":true}`, `"x"`, `null`, `{"statusCode":200,"body":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		check := func(r *Response) {
			if r == nil {
				return
			}
			if r.Status < 200 || r.Status > 599 {
				t.Errorf("status %d", r.Status)
			}
			for name, values := range r.Header {
				for _, v := range values {
					if !validName(name) || !validValue(v) {
						t.Errorf("header %q: %q", name, v)
					}
				}
			}
		}
		r, err := Interpret(payload)
		if err == nil {
			check(r)
		}
		var h Head
		h.Begin(IntegrationType)
		if r, err = h.Take(append(payload, preludeEnd...)); err == nil {
			check(r)
		}
	})
}
