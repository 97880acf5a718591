package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/client"
	"berth/clientfile"
	"berth/internal/serverproc"
)

// TestLogReaderLeaves: `berth serve 2>&1 | head` leaves a server whose log nobody reads any more. It serves on, and ends in good order.
func TestLogReaderLeaves(t *testing.T) {
	needServer(t)
	data := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(binary, "serve", "--data", data, "--addr", "127.0.0.1:0", "--log-level", "debug") // which logs a lot
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	for lines := bufio.NewScanner(r); !strings.HasPrefix(lines.Text(), "berth ready on "); {
		if !lines.Scan() {
			t.Fatalf("the server ended before it was ready: %v", lines.Err())
		}
	}
	r.Close()

	file, err := clientfile.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	c := client.New(file)
	defer c.Close()
	python(t, c, "unread", "import os\ndef handler(event, context):\n    return {} if event else os._exit(3)\n")
	for _, event := range []string{`{"a":1}`, `{}`, `{"a":1}`} { // the one in the middle is logged
		invoke(t, c, &lambda.InvokeInput{FunctionName: aws.String("unread"), Payload: []byte(event)})
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the server ended with %v", err)
		}
	case <-time.After(readyWithin):
		t.Fatal("the server does not end")
	}
	var log strings.Builder
	s, err := serverproc.Start(t.Context(), serverproc.Config{Binary: binary, DataDir: data, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(log.String(), "left behind") {
		t.Errorf("the server that was interrupted left something behind:\n%s", log.String())
	}
}
