package e2e

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/client"
)

// TestMetrics: calls and events are counted where --metrics says, and are not shown on the API's address.
func TestMetrics(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s := start(t, t.TempDir(), "--metrics", addr)
	c := client.New(s.Client)
	defer c.Close()
	python(t, c, "counted", "def handler(event, context):\n    return 1\n")
	invoke(t, c, &lambda.InvokeInput{FunctionName: aws.String("counted")})
	event(t, c, "counted", "{}")
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(50 * time.Millisecond) {
		status, text := get(t, "http://"+addr+"/metrics")
		if status == http.StatusOK && strings.Contains(text, "\nberth_invocations_total{result=\"ok\"} 2\n") &&
			strings.Contains(text, "\nberth_events_accepted_total 1\n") && strings.Contains(text, "\nberth_events_attempts_total{result=\"ok\"} 1\n") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d: %s", status, text)
		}
	}
	if status, text := get(t, s.URL+"/metrics"); status == http.StatusOK || strings.Contains(text, "berth_events") {
		t.Errorf("the API's address answers %d: %s", status, text)
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}
