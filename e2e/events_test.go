package e2e

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
	"berth/internal/serverproc"
)

const halfFailing = "def handler(event, context):\n    if event['n'] % 2:\n        raise Exception('on purpose')\n    return event['n']\n"

// sqsDouble speaks as much of SQS as a destination needs, and counts the records by request id.
type sqsDouble struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]int
}

func newSQSDouble(t *testing.T) *sqsDouble {
	d := &sqsDouble{seen: map[string]int{}}
	d.Server = httptest.NewServer(http.HandlerFunc(d.serve))
	t.Cleanup(d.Close)
	return d
}

func (d *sqsDouble) serve(w http.ResponseWriter, r *http.Request) {
	var in struct{ QueueName, MessageBody string }
	if body, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(body, &in) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".GetQueueUrl") {
		fmt.Fprintf(w, `{"QueueUrl":"%s/000000000001/%s"}`, d.URL, in.QueueName)
		return
	}
	var record struct{ RequestContext struct{ RequestID string } }
	if err := json.Unmarshal([]byte(in.MessageBody), &record); err != nil {
		http.Error(w, "no record", http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	d.seen[record.RequestContext.RequestID]++
	d.mu.Unlock()
	sum := md5.Sum([]byte(in.MessageBody))
	fmt.Fprintf(w, `{"MessageId":"m","MD5OfMessageBody":"%s"}`, hex.EncodeToString(sum[:]))
}

// missing returns the ids that no record has come for.
func (d *sqsDouble) missing(ids []string) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		if d.seen[id] == 0 {
			out = append(out, id)
		}
	}
	return out
}

// TestEventsSurviveKills: one process. BERTH_EVENT_ROUNDS=20 BERTH_EVENT_COUNT=5000 is the full test.
func TestEventsSurviveKills(t *testing.T) {
	sharedClient(t)
	queue := newSQSDouble(t)
	data := t.TempDir()
	var s *serverproc.Server
	surviveKills(t, queue, 2, victims{
		start: func() *client.Client {
			if s == nil {
				s = start(t, data, "--aws-endpoint", "sqs="+queue.URL, "--log-level", "error")
			}
			return client.New(s.Client)
		},
		kill: func() bool { s.Kill(); s = nil; return false },
	})
}

// eventsWithin bounds the wait for a round's events: what a dead process held comes again in seconds, on a busy machine later.
const eventsWithin = 3 * time.Minute

// victims are the processes of a server, be it one or a cluster.
type victims struct {
	start func() *client.Client // starts those that do not run
	kill  func() bool           // SIGKILL for one of them; false when the client of start cannot reach the rest
}

// surviveKills publishes events under load, kills a process at a random moment, and starts it again: each event whose 202 was seen
// runs at least once, and its destination is told. BERTH_EVENT_ROUNDS and BERTH_EVENT_COUNT
// say how often and how many.
func surviveKills(t *testing.T, queue *sqsDouble, rounds int, v victims) {
	rounds = setting(t, "BERTH_EVENT_ROUNDS", rounds)
	count := setting(t, "BERTH_EVENT_COUNT", 300)
	all, duplicates := 0, 0
	for round := range rounds {
		c := v.start()
		if round == 0 {
			python(t, c, "events", halfFailing)
			configure(t, c, "events", "arn:aws:sqs:us-east-1:000000000001:q")
		}
		kill := rand.N(count)
		acknowledged := publishEvents(t, c, count, kill, v.kill)
		c.Close()
		again := v.start()
		began := time.Now()
		for left := queue.missing(acknowledged); len(left) > 0; left = queue.missing(acknowledged) {
			if time.Since(began) > eventsWithin {
				status, err := again.Events(t.Context(), "events")
				t.Fatalf("round %d: %d of %d acknowledged events did not run, the first is %s; the queue: %+v, %v", round, len(left), len(acknowledged), left[0], status, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		again.Close()
		t.Logf("round %d: killed after %d acknowledgements; all of %d were done %v after the restart", round, kill, len(acknowledged), time.Since(began).Round(time.Millisecond))
		all += len(acknowledged)
	}
	queue.mu.Lock()
	defer queue.mu.Unlock()
	for _, n := range queue.seen {
		duplicates += n - 1
	}
	t.Logf("%d events, %d duplicates", all, duplicates)
}

func setting(t *testing.T, name string, otherwise int) int {
	n, err := strconv.Atoi(os.Getenv(name))
	if err != nil && os.Getenv(name) != "" {
		t.Fatalf("%s: %v", name, err)
	}
	if n == 0 {
		return otherwise
	}
	return n
}

// configure sends a function's records to a target, without retries.
func configure(t *testing.T, c *client.Client, name, arn string) {
	t.Helper()
	_, err := c.Lambda.PutFunctionEventInvokeConfig(t.Context(), &lambda.PutFunctionEventInvokeConfigInput{
		FunctionName: &name, MaximumRetryAttempts: aws.Int32(0),
		DestinationConfig: &types.DestinationConfig{OnSuccess: &types.OnSuccess{Destination: &arn}, OnFailure: &types.OnFailure{Destination: &arn}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// publishEvents sends events from many clients at once and returns the ids of those that were acknowledged. When so many were, a
// process is killed; without one to go on with, what is under way then fails.
func publishEvents(t *testing.T, c *client.Client, count, killAt int, kill func() bool) (ids []string) {
	const clients = 32
	var mu sync.Mutex
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next := make(chan int)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for n := range next {
				id, err := accepted(ctx, c, n)
				if err != nil {
					continue // not acknowledged
				}
				mu.Lock()
				ids = append(ids, id)
				now := len(ids)
				mu.Unlock()
				if now == killAt+1 && !kill() {
					cancel()
				}
			}
		})
	}
	for n := range count {
		next <- n
	}
	close(next)
	all.Wait()
	return ids
}

// accepted makes one Event invocation and returns its request id.
func accepted(ctx context.Context, c *client.Client, n int) (string, error) {
	out, err := c.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String("events"), InvocationType: types.InvocationTypeEvent,
		Payload: fmt.Appendf(nil, `{"n":%d}`, n)})
	if err != nil {
		return "", err
	}
	id, ok := awsmiddleware.GetRequestIDMetadata(out.ResultMetadata)
	if !ok || out.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("status %d without an id", out.StatusCode)
	}
	return id, nil
}
