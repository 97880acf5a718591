package acceptance_test

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
)

// Limits of accounts and functions, through the API of a real server.

func (s *service) wantThrottled(name, qualifier, reason string) {
	s.t.Helper()
	_, err := s.invoke(name, qualifier)
	var e *types.TooManyRequestsException
	if !errors.As(err, &e) {
		s.t.Fatalf("got %v, want TooManyRequestsException", err)
	}
	if string(e.Reason) != reason || aws.ToString(e.Message) != "Rate Exceeded." || aws.ToString(e.Type) != "User" || aws.ToString(e.RetryAfterSeconds) == "" {
		s.t.Errorf("429 says %q, %q, %q, Retry-After %q", e.Reason, aws.ToString(e.Message), aws.ToString(e.Type), aws.ToString(e.RetryAfterSeconds))
	}
}

func (s *service) wantSettings(concurrent, unreserved int32, functions int64) {
	s.t.Helper()
	got, err := s.client.GetAccountSettings(s.t.Context(), &sdk.GetAccountSettingsInput{})
	if err != nil {
		s.t.Fatal(err)
	}
	l, u := got.AccountLimit, got.AccountUsage
	if l.ConcurrentExecutions != concurrent || aws.ToInt32(l.UnreservedConcurrentExecutions) != unreserved || u.FunctionCount != functions {
		s.t.Errorf("settings: %d concurrent, %d unreserved, %d functions; want %d, %d, %d",
			l.ConcurrentExecutions, aws.ToInt32(l.UnreservedConcurrentExecutions), u.FunctionCount, concurrent, unreserved, functions)
	}
}

func (s *service) setConcurrency(n int) {
	s.t.Helper()
	if got, err := s.own.SetConcurrency(s.t.Context(), n); err != nil || got.Concurrency != n {
		s.t.Fatalf("setting the account's concurrency: %+v, %v", got, err)
	}
}

func TestAnAccountsLimitIsAThousandAndCanBeSet(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.wantSettings(1000, 1000, 1)
	if err := s.reserve("f", 900); err != nil {
		t.Fatal(err)
	}
	s.wantSettings(1000, 100, 1)
	const tooMany = "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
	wantInvalid(t, s.reserve("f", 901), tooMany)
	s.create("g")
	wantInvalid(t, s.reserve("g", 1), tooMany)
	if err := s.reserve("g", 0); err != nil { // takes nothing from the others
		t.Error(err)
	}
	if _, err := s.own.SetConcurrency(t.Context(), 999); err == nil {
		t.Error("the account's limit went below what is reserved and 100")
	}
	s.setConcurrency(5000)
	s.wantSettings(5000, 4100, 2)
	got, err := s.own.Account(t.Context())
	if err != nil || got.Account != string(account) || got.Reserved != 900 || got.Unreserved != 4100 {
		t.Errorf("account: %+v, %v", got, err)
	}
	if _, err := s.client.DeleteFunction(t.Context(), &sdk.DeleteFunctionInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	s.wantSettings(5000, 5000, 1) // a deleted function gives its reservation back
}

func TestTheAccountsLimitIsForItsOwnerOnly(t *testing.T) {
	s := newService(t, serviceSettings{})
	for _, method := range []string{http.MethodGet, http.MethodPut} {
		req, err := http.NewRequestWithContext(t.Context(), method, s.url+"/berth/v1/account", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s without a signature: %s %s", method, resp.Status, body)
		}
	}
}

func TestTheCallAboveAnAccountsLimitIsThrottled(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.create("g")
	s.setConcurrency(110)
	if err := s.reserve("g", 5); err != nil {
		t.Fatal(err)
	}
	s.hold(105, "f", "")
	s.wantThrottled("f", "", lambda.ReasonConcurrency)
	s.hold(5, "g", "") // its own
	s.wantThrottled("g", "", lambda.ReasonReservedConcurrency)
	s.machine.finishAll()
	s.eventually("all calls have ended", func() bool { return s.machine.running() == 0 })
	if _, err := s.invoke("f", ""); err != nil {
		t.Error(err)
	}
}

func TestReservedZeroStopsAFunctionAtOnce(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	if _, err := s.invoke("f", ""); err != nil { // an idle environment is there
		t.Fatal(err)
	}
	if err := s.reserve("f", 0); err != nil {
		t.Fatal(err)
	}
	s.wantThrottled("f", "", lambda.ReasonReservedConcurrency)
	if _, err := s.client.DeleteFunctionConcurrency(t.Context(), &sdk.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.invoke("f", ""); err != nil {
		t.Error(err)
	}
}

func TestTheCapsOfBothPoolsHoldWhileAFunctionMoves(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.create("g")
	s.create("h")
	s.setConcurrency(106)
	s.hold(97, "h", "") // so that few of the unreserved are left for the others
	finish := s.machine.pass()
	defer finish()
	s.machine.takes = 5 * time.Millisecond
	done := make(chan struct{})
	var callers sync.WaitGroup
	var ok, throttled atomic.Int64
	for i := range 24 {
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				_, err := s.invoke([]string{"f", "g"}[i%2], "")
				var e *types.TooManyRequestsException
				switch {
				case err == nil:
					ok.Add(1)
				case errors.As(err, &e):
					throttled.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	more := func() { // for calls in both states
		before := ok.Load() + throttled.Load()
		s.eventually("calls go on", func() bool { return ok.Load()+throttled.Load() >= before+12 })
	}
	full := func() bool { // both caps were reached
		s.machine.mu.Lock()
		defer s.machine.mu.Unlock()
		return s.machine.most[lambda.PoolID{Account: account, Function: "f"}] >= 3 && s.machine.most[unreserved] >= 106
	}
	for n, began := 0, time.Now(); n < 30 || !full() && time.Since(began) < patience; n++ {
		more()
		if err := s.reserve("f", 3); err != nil {
			t.Error(err)
		}
		more()
		if _, err := s.client.DeleteFunctionConcurrency(t.Context(), &sdk.DeleteFunctionConcurrencyInput{FunctionName: aws.String("f")}); err != nil {
			t.Error(err)
		}
	}
	close(done)
	callers.Wait()
	finish()
	s.eventually("all calls have ended", func() bool { return s.machine.running() == 0 })
	m := s.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	own, rest := m.most[lambda.PoolID{Account: account, Function: "f"}], m.most[unreserved]
	if own != 3 || rest != 106 {
		t.Errorf("most calls at once: %d in the reserved pool of 3, %d in the unreserved of 106", own, rest)
	}
	for pool, n := range m.inPool {
		if n != 0 {
			t.Errorf("%v: %d calls are still counted", pool, n)
		}
	}
	t.Logf("%d calls, %d throttled; most at once: %d reserved, %d unreserved", ok.Load(), throttled.Load(), own, rest)
}
