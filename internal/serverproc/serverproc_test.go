package serverproc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/clientfile"
)

// script makes a stand-in for the berth binary. $3 is the data directory: berth serve --data DIR --addr ADDR.
func script(t *testing.T, body string) Config {
	dir := t.TempDir()
	path := filepath.Join(dir, "berth")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o755); err != nil {
		t.Fatal(err)
	}
	return Config{Binary: path, DataDir: dir}
}

func writeClient(t *testing.T, cfg Config) {
	file := clientfile.File{Endpoint: "http://127.0.0.1:1", AccessKeyID: "A", SecretAccessKey: "S"}
	if err := clientfile.Save(cfg.DataDir, file); err != nil {
		t.Fatal(err)
	}
}

func TestStartAndStop(t *testing.T) {
	cfg := script(t, `trap 'exit 0' TERM; echo "berth ready on http://127.0.0.1:1"; while :; do sleep 0.02; done`)
	writeClient(t, cfg)
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s.URL != "http://127.0.0.1:1" || s.Client.AccessKeyID != "A" || s.PID() == 0 {
		t.Errorf("server %+v", s)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestStartFails(t *testing.T) {
	_, err := Start(t.Context(), script(t, `echo "the data is in use" >&2; exit 3`))
	if err == nil || !strings.Contains(err.Error(), "the data is in use") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	if _, err := Start(t.Context(), Config{Binary: "/does/not/exist"}); err == nil {
		t.Error("started a program that does not exist")
	}
}

func TestStartWithoutClientFile(t *testing.T) {
	_, err := Start(t.Context(), script(t, `echo "berth ready on http://127.0.0.1:1"; exec sleep 60`))
	if !errors.Is(err, clientfile.ErrMissing) {
		t.Errorf("got %v, want ErrMissing", err)
	}
}

func TestStartInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, script(t, `exec sleep 60`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestStopTellsOfFailure(t *testing.T) {
	cfg := script(t, `trap 'echo broken >&2; exit 4' TERM; echo "berth ready on x"; while :; do sleep 0.02; done`)
	writeClient(t, cfg)
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err == nil || !strings.Contains(err.Error(), "exit code 4") || !strings.Contains(err.Error(), "broken") {
		t.Errorf("got %v", err)
	}
}
