package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/lambda"
)

// frame builds one with whatever sizes it claims.
func frame(k kind, name, doc string, claimedDoc, claimedRaw uint32, raw string) string {
	b := []byte{byte(k), 0}
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = binary.BigEndian.AppendUint32(b, claimedDoc)
	b = binary.BigEndian.AppendUint32(b, claimedRaw)
	return string(b) + name + doc + raw
}

func jsonFrame(k kind, name, doc, raw string) string {
	return frame(k, name, doc, uint32(len(doc)), uint32(len(raw)), raw)
}

// hailed opens a connection to a server and gets it past HTTP.
func hailed(t *testing.T, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: %s\r\nAuthorization: Bearer %s\r\n\r\n", connectPath, protocol, token)
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%+v, %v", res, err)
	}
	return conn, r
}

// TestDamagedCalls: what is no call ends the connection or is refused, and no role hears of it.
func TestDamagedCalls(t *testing.T) {
	d := &double{outcome: &lambda.Outcome{}}
	_, _, s := serve(t, d)
	const op = "worker/invoke"
	for name, c := range map[string]struct {
		sent    string
		refused bool // else the connection ends
	}{
		"HTTP":                 {"GET / HTTP/1.1\r\n\r\n", false},
		"zeros":                {strings.Repeat("\x00", headSize), false},
		"an answer":            {jsonFrame(answerFrame, "", "{}", ""), false},
		"half a head":          {jsonFrame(callFrame, op, "{}", "")[:6], false},
		"half a document":      {frame(callFrame, op, "{", 2, 0, ""), false},
		"half a payload":       {frame(callFrame, op, "{}", 2, 100, "x"), false},
		"a name too long":      {jsonFrame(callFrame, strings.Repeat("n", maxName+1), "{}", ""), false},
		"a document too large": {frame(callFrame, op, "", maxMeta+1, 0, ""), false},
		"a payload too large":  {frame(callFrame, op, "{}", 2, maxRaw+1, ""), false},
		"huge claims":          {frame(callFrame, op, "{}", 0xffffffff, 0xffffffff, ""), false},
		"an unknown operation": {jsonFrame(callFrame, "worker/dance", "{}", ""), true},
		"no operation":         {jsonFrame(callFrame, "", "{}", ""), true},
		"not JSON":             {jsonFrame(callFrame, op, "{{{{", ""), true},
		"another type":         {jsonFrame(callFrame, op, `"ab"`, ""), true},
		"not compact":          {"\x01\x01" + jsonFrame(callFrame, op, "{{{{{{", "")[2:], true},
		"compact, not known":   {"\x01\x01" + jsonFrame(callFrame, "worker/start", "\x00", "")[2:], true},
	} {
		conn, r := hailed(t, s.addr)
		if _, err := io.WriteString(conn, c.sent); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(r) // it ends here in any case
		if got := len(answer) > 0 && kind(answer[0]) == failureFrame; got != c.refused || len(answer) > 0 && !c.refused {
			t.Errorf("%s: the answer is %q", name, answer)
		}
	}
	if len(d.requests()) != 0 {
		t.Errorf("the role was asked %v", d.requests())
	}
}

// TestRequestsThatAreNotOurs: without the right path and protocol nothing is taken over.
func TestRequestsThatAreNotOurs(t *testing.T) {
	s := listen(t, &double{}, nil)
	for path, want := range map[string]int{connectPath: http.StatusUpgradeRequired, "/": http.StatusNotFound, "/internal/manager/acquire": http.StatusNotFound} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, res.StatusCode, want)
		}
	}
}

// imposter answers every connection with 101 and then with what it is told to.
func imposter(t *testing.T, answers string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			if _, err := http.ReadRequest(r); err == nil {
				fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
				if h, err := readHead(r); err == nil {
					_, _ = r.Discard(h.name + h.doc + h.raw)
					_, _ = io.WriteString(conn, answers)
				}
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}

// TestDamagedAnswers: a server that answers nonsense is as good as unreachable; after an Invoke nobody knows whether it ran.
func TestDamagedAnswers(t *testing.T) {
	for name, answers := range map[string]string{
		"nothing":             "",
		"a call":              jsonFrame(callFrame, "manager/ping", "{}", ""),
		"half a head":         jsonFrame(answerFrame, "", "{}", "")[:5],
		"less than it claims": frame(answerFrame, "", "{}", 100, 0, ""),
		"too large":           frame(answerFrame, "", "{}", 2, maxRaw+1, ""),
		"not JSON":            jsonFrame(answerFrame, "", "{{{{", ""),
		"compact, unasked":    "\x02\x01" + jsonFrame(answerFrame, "", "{{{{{{", "")[2:],
		"a damaged failure":   jsonFrame(failureFrame, "", "{{{{", ""),
		"a stream, unasked":   jsonFrame(beginFrame, "", "", "text/plain") + jsonFrame(answerFrame, "", "{}", ""),
		"a negative length":   jsonFrame(answerFrame, "", `{"PayloadLen":-1}`, ""),
		"a length too long":   jsonFrame(answerFrame, "", `{"PayloadLen":9}`, "12345678"),
	} {
		addr := imposter(t, answers)
		c := NewClient(token, nil)
		_, err := NewWorker(c, addr).Invoke(t.Context(), reservation, &lambda.Invocation{})
		if lambda.CodeOf(err) != lambda.ServiceFailure || errors.Is(err, lambda.ErrUnknownEnvironment) {
			t.Errorf("%s: Invoke gives %v, want ServiceFailure", name, err)
		}
		if !strings.Contains(name, "length") {
			_, err = NewManager(c, addr).Acquire(t.Context(), lambda.AcquireRequest{Version: &version})
			if !errors.Is(err, lambda.ErrUnreachable) || errors.Is(err, errUnsent) {
				t.Errorf("%s: Acquire gives %v, want ErrUnreachable", name, err)
			}
		}
		c.Close()
	}
}

// TestAConnectionThatIsDeadIsNotUsed: a server that was started again is reached at once, with the first call.
func TestAConnectionThatIsDeadIsNotUsed(t *testing.T) {
	d := &double{outcome: &lambda.Outcome{Payload: []byte("1")}}
	m, w, s := serve(t, d)
	if !m.Ping(t.Context()) {
		t.Fatal("no answer")
	}
	s.cut()
	waitUntil(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.conns) == 0 })
	if _, err := w.Invoke(t.Context(), reservation, &lambda.Invocation{}); err != nil {
		t.Errorf("Invoke: %v", err)
	}
}

// TestFieldsTravel: every field of a hot document arrives, and those of a release with other fields go as JSON.
func TestFieldsTravel(t *testing.T) {
	c, err := newCodec()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.layouts) == 0 {
		t.Fatal("no document is hot")
	}
	for typ := range c.layouts {
		in := reflect.New(typ)
		fill(in.Elem(), new(int))
		for _, compactly := range []bool{true, false} {
			doc, compact, err := c.append(nil, in.Interface(), compactly)
			if err != nil || compact != compactly {
				t.Fatalf("%v: compact %v, %v", typ, compact, err)
			}
			out := reflect.New(typ)
			if err := c.decode(doc, out.Interface(), compact); err != nil || !reflect.DeepEqual(in.Interface(), out.Interface()) {
				t.Errorf("%v: %+v became %+v, %v", typ, in.Elem(), out.Elem(), err)
			}
			for n := range doc {
				if compact && c.decode(doc[:n], reflect.New(typ).Interface(), true) == nil {
					t.Errorf("%v: %d of %d bytes make a whole one", typ, n, len(doc))
				}
			}
		}
	}
}

// fill sets every field that travels to a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(-*n))
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n % 256))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]string{"a": fmt.Sprint(*n), "": ""}))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, *n, time.UTC)))
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("json") != "-" {
				fill(v.Field(i), n)
			}
		}
	}
}

func FuzzDocuments(f *testing.F) {
	c, err := newCodec()
	if err != nil {
		f.Fatal(err)
	}
	for typ := range c.layouts {
		in := reflect.New(typ)
		fill(in.Elem(), new(int))
		doc, _, err := c.append(nil, in.Interface(), true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if len(doc) >= headSize {
			if h, err := parseHead(doc[:headSize]); err == nil && (h.name > maxName || h.doc > maxMeta || h.raw > maxRaw) {
				t.Errorf("the head %x gives %+v", doc[:headSize], h)
			}
		}
		for typ := range c.layouts {
			v := reflect.New(typ)
			if c.decode(doc, v.Interface(), true) != nil {
				continue
			}
			again, _, err := c.append(nil, v.Interface(), true)
			if err != nil {
				t.Fatal(err)
			}
			back := reflect.New(typ)
			if err := c.decode(again, back.Interface(), true); err != nil || !reflect.DeepEqual(v.Interface(), back.Interface()) {
				t.Errorf("%v: %+v became %+v, %v", typ, v.Elem(), back.Elem(), err)
			}
		}
	})
}

// TestReleasesWithOtherFieldsUnderstandEachOther: without the same layout they speak JSON.
func TestReleasesWithOtherFieldsUnderstandEachOther(t *testing.T) {
	d := &double{answer: lambda.Answer{Verdict: lambda.Granted, Reservation: reservation}, outcome: &lambda.Outcome{Payload: []byte("1"), Log: []byte("l")}}
	_, _, s := serve(t, d)
	for digest, compact := range map[string]bool{"another": false, "": false, s.codec.digest: true} {
		c := NewClient(token, nil)
		c.codec.digest = digest
		conn, err := c.connect(t.Context(), s.addr, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if conn.compact != compact {
			t.Errorf("with the digest %q compact documents are sent: %v", digest, conn.compact)
		}
		c.put(conn)
		if answer, err := NewManager(c, s.addr).Acquire(t.Context(), lambda.AcquireRequest{Key: key, Version: &version}); err != nil || answer != d.answer {
			t.Errorf("Acquire = %+v, %v", answer, err)
		}
		if out, err := NewWorker(c, s.addr).Invoke(t.Context(), reservation, &lambda.Invocation{}); err != nil || !reflect.DeepEqual(out, d.outcome) {
			t.Errorf("Invoke = %+v, %v", out, err)
		}
		c.Close()
	}
}
