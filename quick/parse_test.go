package quick

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// FuzzParse: what is taken, net/http takes alike.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"POST /f/a/run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET",
		"POST /f/a/run?x=%20 HTTP/1.1\r\nHost: [::1]:80\r\nx-amz-date: 1\r\nX-Amz-Date:  2 \r\nConnection: close\r\n\r\n",
		"POST /f/%2f/run HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nA: \t\r\n\r\n",
		"POST /f/a/run HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"POST /f/a/run HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
		"POST /f/a/run HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
		"POST /f/a/run HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
		"POST /f/a/run HTTP/1.1\r\nHost: a\r\nA: b\nB: c\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > size {
			return
		}
		r, whole, verdict := parse(data, "POST /f/", isQuick)
		if verdict != quick {
			return
		}
		got := r.http(t.Context())
		br := bufio.NewReader(bytes.NewReader(data))
		want, err := http.ReadRequest(br)
		if err != nil {
			t.Fatalf("%q: net/http refuses it: %v", data, err)
		}
		if got.Method != want.Method || got.RequestURI != want.RequestURI || !reflect.DeepEqual(got.URL, want.URL) || got.Host != want.Host ||
			!reflect.DeepEqual(got.Header, want.Header) || got.ContentLength != want.ContentLength || got.Close != want.Close || got.Proto != want.Proto {
			t.Fatalf("%q:\n got %+v\nwant %+v", data, got, want)
		}
		a, errA := io.ReadAll(got.Body)
		b, errB := io.ReadAll(want.Body)
		left, _ := io.ReadAll(br)
		if errA != nil || errB != nil || !bytes.Equal(a, b) || !bytes.Equal(left, data[whole:]) {
			t.Fatalf("%q: bodies %q %q, left %q %q", data, a, b, left, data[whole:])
		}
	})
}

// TestNotQuick: what is unusual is for net/http, and what is not whole is waited for.
func TestNotQuick(t *testing.T) {
	const head = "POST /f/a/run HTTP/1.1\r\nHost: x\r\n"
	for text, want := range map[string]verdict{
		"":                                 incomplete,
		"POST":                             incomplete,
		head:                               incomplete,
		head + "Content-Length: 1\r\n\r\n": incomplete,
		head + "\r\n":                      quick,
		"GET /":                            notQuick,
		"POST /g":                          notQuick,
		"POST /f/a/walk HTTP/1.1\r\nHost: x\r\n\r\n": notQuick,
		"POST /f/a/run HTTP/1.0\r\nHost: x\r\n\r\n":  notQuick,
		"POST /f/a/run HTTP/1.1\r\n\r\n":             notQuick,
		head + "Transfer-Encoding: chunked\r\n\r\n":  notQuick,
		head + "Expect: 100-continue\r\n\r\n":        notQuick,
		head + "Connection: upgrade\r\n\r\n":         notQuick,
		head + "Content-Length: 99999\r\n\r\n":       notQuick,
		head + "Content-Length: +1\r\n\r\nx":         notQuick,
		head + "A: \x00\r\n\r\n":                     notQuick,
		head + "A: ü\r\n\r\n":                        notQuick,
		strings.Repeat(head, size)[:size]:            notQuick,
	} {
		if _, _, got := parse([]byte(text), "POST /f/", isQuick); got != want {
			t.Errorf("%.60q: %d, want %d", text, got, want)
		}
	}
}
