package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	awslambda "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/smithy-go"

	"berth/catalog"
	"berth/client"
	"berth/frontend"
	"berth/internal/testcert"
	"berth/lambda"
	"berth/members"
	"berth/ring"
	"berth/store/jetstream"
	"berth/wire"
)

func writeCertificates(t *testing.T) testcert.Files { return testcert.Write(t, t.TempDir()) }

func updateCode(t *testing.T, c *client.Client, name string, zip []byte) {
	t.Helper()
	if _, err := c.Lambda.UpdateFunctionCode(t.Context(), &awslambda.UpdateFunctionCodeInput{FunctionName: &name, ZipFile: zip}); err != nil {
		t.Fatalf("UpdateFunctionCode: %v", err)
	}
}

func reserve(t *testing.T, c *client.Client, name string, n int32) {
	t.Helper()
	in := &awslambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: &n}
	if _, err := c.Lambda.PutFunctionConcurrency(t.Context(), in); err != nil {
		t.Fatalf("PutFunctionConcurrency: %v", err)
	}
}

func throttledCall(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == "TooManyRequestsException"
}

// TestA4_ADeadManagerIsReplacedProcesses kills the pool's first manager (SIGKILL) under load: no caller sees an error.
func TestA4_ADeadManagerIsReplacedProcesses(t *testing.T) {
	p := startProcesses(t, 3, 2)
	name := "a4"
	python(t, p.frontends[0], name, "def handler(event, context):\n    return {}\n")
	waitActive(t, p.frontends[1], name)
	call(t, p.frontends[0], name, "", `{}`)
	ids := []lambda.ManagerID{"m1", "m2", "m3"}
	r, err := ring.New(1, 100, ids)
	if err != nil {
		t.Fatal(err)
	}
	first := string(r.Manager(lambda.PoolID{Account: catalog.FirstAccount}))

	var calls, failures atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				_, err := p.frontends[i%2].Lambda.Invoke(t.Context(), &awslambda.InvokeInput{FunctionName: &name})
				if calls.Add(1); err != nil {
					failures.Add(1)
					t.Errorf("a call failed: %v", err)
				}
			}
		})
	}
	time.Sleep(time.Second)
	p.managers[first].Kill()
	began := time.Now()
	call(t, p.frontends[0], name, "", `{}`)
	took := time.Since(began)
	time.Sleep(members.Expiry + 2*members.Interval) // the ring changes meanwhile
	stop()
	load.Wait()
	if took > 10*time.Second { // the time limit of a call to a manager: it was not waited for
		t.Errorf("the next call took %v", took)
	}
	t.Logf("the next call took %v; %d of %d calls failed", took, failures.Load(), calls.Load())
}

// interval is when a call ran, by the machine's clock, as the function saw it.
type interval struct{ Begin, End float64 }

// most returns how many ran at once at most.
func most(ran []interval) int {
	type edge struct {
		at    float64
		delta int
	}
	var edges []edge
	for _, i := range ran {
		edges = append(edges, edge{i.Begin, 1}, edge{i.End, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if a.at != b.at {
			if a.at < b.at {
				return -1
			}
			return 1
		}
		return a.delta - b.delta
	})
	now, top := 0, 0
	for _, e := range edges {
		now += e.delta
		top = max(top, now)
	}
	return top
}

// TestA5_NeverMoreThanTheLimitRunProcesses: two frontends and two managers, and functions that say when they ran.
func TestA5_NeverMoreThanTheLimitRunProcesses(t *testing.T) {
	const limit, callers = 25, 40
	p := startProcesses(t, 2, 2, "--pool-quota", "10", "--memory", "16384")
	name := "a5"
	python(t, p.frontends[0], name, `import time
def handler(event, context):
    begin = time.time()
    time.sleep(0.05)
    return {"begin": begin, "end": time.time()}
`)
	reserve(t, p.frontends[0], name, limit)
	waitActive(t, p.frontends[1], name)
	var mu sync.Mutex
	var ran []interval
	var throttled atomic.Int64
	var wg sync.WaitGroup
	deadline := time.Now().Add(5 * time.Second)
	for i := range callers {
		wg.Go(func() {
			for time.Now().Before(deadline) {
				out, err := p.frontends[i%2].Lambda.Invoke(t.Context(), &awslambda.InvokeInput{FunctionName: &name})
				switch {
				case throttledCall(err):
					throttled.Add(1)
					time.Sleep(5 * time.Millisecond)
				case err != nil:
					t.Errorf("Invoke: %v", err)
					return
				default:
					var in interval
					if err := json.Unmarshal(out.Payload, &in); err != nil || out.FunctionError != nil {
						t.Errorf("the function answered %s", out.Payload)
						return
					}
					mu.Lock()
					ran = append(ran, in)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	top := most(ran)
	t.Logf("%d calls ran, at most %d at once of %d allowed; %d were throttled", len(ran), top, limit, throttled.Load())
	if top > limit {
		t.Errorf("%d calls ran at once, the limit is %d", top, limit)
	}
	if top < limit-5 || throttled.Load() == 0 {
		t.Errorf("at most %d of %d calls ran at once: the limit was not tried", top, limit)
	}
}

// TestE10_AReservationOfADeadFrontendEndsProcesses kills a frontend between its reservation and its call.
func TestE10_AReservationOfADeadFrontendEndsProcesses(t *testing.T) {
	p := startProcesses(t, 2, 1)
	c, name := p.frontends[0], "e10"
	python(t, c, name, "calls = 0\ndef handler(event, context):\n    global calls\n    calls += 1\n    return {'calls': calls}\n")
	reserve(t, c, name, 1)
	if got := call(t, c, name, "", `{}`)["calls"]; got != float64(1) {
		t.Fatalf("the first call was number %v of its environment", got)
	}
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holderEngine+"="+p.engineURL, holderToken+"="+p.token, holderFunction+"="+name)
	holder.Stderr = os.Stderr
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if killed := holder.Process.Kill(); killed != nil {
		t.Fatal(killed)
	}
	_ = holder.Wait() // it was killed
	if err != nil || !strings.HasPrefix(line, "reserved ") {
		t.Fatalf("the frontend said %q, %v", line, err)
	}
	began := time.Now()
	if _, err := c.Lambda.Invoke(t.Context(), &awslambda.InvokeInput{FunctionName: &name}); !throttledCall(err) {
		t.Fatalf("a call beside the reservation: %v, want it throttled", err)
	}
	for {
		out, err := c.Lambda.Invoke(t.Context(), &awslambda.InvokeInput{FunctionName: &name})
		if err == nil {
			if got := object(t, out.Payload)["calls"]; got != float64(2) {
				t.Errorf("the next call was number %v of its environment, want the same environment", got)
			}
			break
		}
		if !throttledCall(err) {
			t.Fatal(err)
		}
		if time.Since(began) > readyWithin {
			t.Fatalf("the environment is still reserved after %v", readyWithin)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("the environment was idle again after %v", time.Since(began).Round(10*time.Millisecond))
}

// The environment of a process that plays a frontend which reserves and then never calls.
const (
	holderEngine   = "BERTH_E2E_HOLDER_ENGINE"
	holderToken    = "BERTH_E2E_HOLDER_TOKEN"
	holderFunction = "BERTH_E2E_HOLDER_FUNCTION"
)

// hold is that process: a real frontend, with a worker edge that prints the reservation instead of using it.
func hold() int {
	if err := holdReservation(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

func holdReservation() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	token, err := os.ReadFile(os.Getenv(holderToken))
	if err != nil {
		return err
	}
	secret, quiet := strings.TrimSpace(string(token)), slog.New(slog.DiscardHandler)
	engine, err := jetstream.Connect(ctx, jetstream.Remote{URL: os.Getenv(holderEngine), Token: secret, Logger: quiet})
	if err != nil {
		return err
	}
	cat := catalog.New(engine.Catalog(), "us-east-1")
	go cat.Run(ctx)
	<-cat.Ready()
	boot := "holder"
	all := members.New(members.Config{Conn: engine.Conn(), Boot: boot, Log: quiet, Self: func() []members.Member {
		return []members.Member{{ID: boot, Role: members.Frontend, Boot: boot}}
	}})
	if err := all.Join(ctx); err != nil {
		return err
	}
	wireClient := wire.NewClient(secret, nil)
	f := frontend.New(frontend.Config{
		Catalog: cat,
		Limit:   cat.Limit,
		Rings:   cat.Rings,
		Manager: func(id lambda.ManagerID) (frontend.Manager, bool) {
			m, ok := all.View().Manager(id)
			if !ok {
				return nil, false
			}
			return wire.NewManager(wireClient, m.Address), true
		},
		Worker: func(lambda.WorkerID) (frontend.Worker, bool) { return printer{}, true },
		RuntimeVersion: func(v *lambda.Version) (lambda.RuntimeVersionID, error) {
			return all.View().Workers[0].Runtimes[v.Runtime], nil
		},
	})
	ref := lambda.Ref{Account: catalog.FirstAccount, Region: "us-east-1", Function: os.Getenv(holderFunction)}
	_, err = f.Invoke(ctx, ref, &lambda.Invocation{RequestID: "held"})
	return err
}

// printer says what was reserved, and waits to be killed.
type printer struct{}

func (printer) Invoke(ctx context.Context, r lambda.Reservation, _ *lambda.Invocation) (*lambda.Outcome, error) {
	fmt.Printf("reserved %s\n", r.Environment)
	<-ctx.Done()
	return nil, ctx.Err()
}
