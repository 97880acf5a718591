package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"berth/store"
	"berth/store/jetstream"
)

func request(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rawRequest(req)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestLoadCountsEveryRequest(t *testing.T) {
	for _, long := range []bool{false, true} { // a long answer comes in chunks
		served := make(chan struct{}, 1<<20)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if string(body) != "{}" {
				t.Errorf("body %q", body)
			}
			served <- struct{}{}
			if long {
				io.WriteString(w, strings.Repeat("x", 10_000))
				w.(http.Flusher).Flush()
			}
			io.WriteString(w, "hello")
		}))
		s, err := load(t.Context(), server.Listener.Addr().String(), request(t, server.URL), 4, 50*time.Millisecond)
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		if s.requests < 4 || s.requests != int64(len(served)) || s.times.TotalCount() != s.requests {
			t.Errorf("%d requests, %d times, %d served", s.requests, s.times.TotalCount(), len(served))
		}
		if s.elapsed < 50*time.Millisecond || s.quantile(50) <= 0 || s.throughput() <= 0 {
			t.Errorf("sample %+v", s)
		}
	}
}

func TestLoadFails(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"answered HTTP/1.1 429": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "slow down", http.StatusTooManyRequests) },
		"the function failed":   func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Amz-Function-Error", "Unhandled") },
	} {
		server := httptest.NewServer(handler)
		_, err := load(t.Context(), server.Listener.Addr().String(), request(t, server.URL), 1, time.Second)
		server.Close()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want an error with %q", err, name)
		}
	}
}

func TestFloorServes(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- serveFloor(ctx, w) }()
	line := make([]byte, 64)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.TrimSpace(string(line[:n]))
	if _, err := load(t.Context(), addr, request(t, "http://"+addr), 2, 20*time.Millisecond); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestReport(t *testing.T) {
	var lines, table bytes.Buffer
	r := newReport(&lines)
	line := bar(row{Metric: "warm.python.16.throughput", Value: 8000, Unit: "1/s", Floor: 80000}, "≥ 0.08 × floor",
		func(r row) bool { return r.Ratio >= 0.08 })
	if err := r.add(line); err != nil {
		t.Fatal(err)
	}
	if err := r.add(row{Metric: "cold.go.p50", Value: 4.25, Unit: "ms"}); err != nil {
		t.Fatal(err)
	}
	var first row
	if err := json.Unmarshal([]byte(strings.Split(lines.String(), "\n")[0]), &first); err != nil {
		t.Fatal(err)
	}
	if first.Ratio != 0.1 || first.Met == nil || !*first.Met {
		t.Errorf("got %+v", first)
	}
	r.table(&table)
	if !strings.Contains(table.String(), "≥ 0.08 × floor met") || !strings.Contains(table.String(), "4.250 ms") {
		t.Errorf("the table is\n%s", table.String())
	}
}

func TestParseBenchmarks(t *testing.T) {
	got := parseBenchmarks("goos: linux\nBenchmarkSandbox/workers=2-2   \t 500\t   2000000 ns/op\t 2591 create-µs\t 546.5 per-s\t 12 B/op\t 3 allocs/op\nPASS\n")
	want := []row{
		{Metric: "sandbox.Sandbox/workers=2.operation", Value: 2000, Unit: "µs"},
		{Metric: "sandbox.Sandbox/workers=2.create", Value: 2591, Unit: "µs"},
		{Metric: "sandbox.Sandbox/workers=2.rate", Value: 546.5, Unit: "1/s"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestOptions(t *testing.T) {
	if _, err := parse([]string{"--rounds", "0"}, io.Discard); err == nil {
		t.Error("no rounds were taken")
	}
	if _, err := parse([]string{"extra"}, io.Discard); err == nil {
		t.Error("an argument was taken")
	}
	if o, err := parse(nil, io.Discard); err != nil || o.functions != 100_000 {
		t.Errorf("defaults %+v, %v", o, err)
	}
}

func TestMultiply(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engine")
	write := func(run func(c store.Catalog)) {
		engine, err := jetstream.Open(t.Context(), jetstream.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer engine.Close()
		run(engine.Catalog())
	}
	write(func(c store.Catalog) {
		if _, err := c.Apply(t.Context(), store.Create("a/many-0000001", []byte("name many-0000001")), store.Create("a/other", []byte("x"))); err != nil {
			t.Fatal(err)
		}
	})
	if err := multiply(t.Context(), dir, 600); err != nil {
		t.Fatal(err)
	}
	write(func(c store.Catalog) {
		last := manyName(madeByAPI + 600)
		entry, err := c.Get(t.Context(), store.Key("a/"+last))
		if err != nil || string(entry.Value) != "name "+last {
			t.Errorf("the last copy is %q, %v", entry.Value, err)
		}
	})
}
