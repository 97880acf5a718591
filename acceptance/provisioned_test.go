package acceptance_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/lambda"
	"berth/manager"
)

// Provisioned concurrency, through the API of a real server.

func (s *service) provision(name, qualifier string, n int32) error {
	_, err := s.client.PutProvisionedConcurrencyConfig(s.t.Context(), &sdk.PutProvisionedConcurrencyConfigInput{
		FunctionName: &name, Qualifier: &qualifier, ProvisionedConcurrentExecutions: &n})
	return err
}

func (s *service) provisioned(name, qualifier string) *sdk.GetProvisionedConcurrencyConfigOutput {
	s.t.Helper()
	got, err := s.client.GetProvisionedConcurrencyConfig(s.t.Context(), &sdk.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &qualifier})
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

func (s *service) waitReady(name, qualifier string) {
	s.t.Helper()
	s.eventually("provisioned concurrency is READY", func() bool {
		got := s.provisioned(name, qualifier)
		return got.Status == types.ProvisionedConcurrencyStatusEnumReady
	})
}

func (s *service) wantKind(name, qualifier, kind string) {
	s.t.Helper()
	if got, err := s.invoke(name, qualifier); err != nil || got != `"`+kind+`"` {
		s.t.Errorf("%s:%s ran %s, %v; want %s", name, qualifier, got, err, kind)
	}
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *service) alias(name, alias, version string) {
	s.t.Helper()
	_, err := s.client.CreateAlias(s.t.Context(), &sdk.CreateAliasInput{FunctionName: &name, Name: &alias, FunctionVersion: &version})
	must(s.t, err)
}

func TestProvisionedEnvironmentsAreUsedFirstAndKept(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.publish("f", "one")
	must(t, s.provision("f", "1", 3))
	s.waitReady("f", "1")
	if n := len(s.machine.ahead("1")); n != 3 {
		t.Fatalf("%d environments, want 3", n)
	}
	s.wantSettings(1000, 997, 1)
	s.wantKind("f", "1", "ahead 1")
	s.wantKind("f", "", "on-demand $LATEST")
	s.hold(3, "f", "1")
	finish := s.machine.pass()
	defer finish()
	s.wantKind("f", "1", "on-demand 1") // all three run
	finish()
	s.eventually("the calls have ended", func() bool { return s.machine.running() == 0 })

	s.machine.end(s.machine.ahead("1")[0]) // a crash
	s.eventually("it is replaced", func() bool { return len(s.machine.ahead("1")) == 3 })
	s.waitReady("f", "1")

	must(t, s.provision("f", "1", 1))
	s.eventually("two have ended", func() bool { return len(s.machine.ahead("1")) == 1 })
	_, err := s.client.DeleteProvisionedConcurrencyConfig(t.Context(), &sdk.DeleteProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")})
	must(t, err)
	s.eventually("all have ended", func() bool { return len(s.machine.ahead("1")) == 0 })
	s.wantSettings(1000, 1000, 1)
}

func TestProvisionedConcurrencyIsAShareOfThePool(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.publish("f", "one")
	must(t, s.reserve("f", 2))
	wantInvalid(t, s.provision("f", "1", 3), "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function")
	must(t, s.provision("f", "1", 2))
	s.waitReady("f", "1")
	s.wantThrottled("f", "$LATEST", lambda.ReasonReservedConcurrency) // nothing is left for what is not provisioned
	s.wantKind("f", "1", "ahead 1")
	s.hold(2, "f", "1")
	s.wantThrottled("f", "1", lambda.ReasonReservedConcurrency)
	wantInvalid(t, s.reserve("f", 1), "ReservedConcurrentExecutions  1 should not be lower than function's total provisioned concurrency [2].")
}

func TestProvisionedConcurrencyMovesWithItsAlias(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.publish("f", "one")
	s.alias("f", "live", "1")
	must(t, s.provision("f", "live", 2))
	s.waitReady("f", "live")
	s.wantKind("f", "1", "ahead 1")
	_, err := s.client.UpdateFunctionConfiguration(t.Context(), &sdk.UpdateFunctionConfigurationInput{FunctionName: aws.String("f"), Timeout: aws.Int32(10)})
	must(t, err)
	s.eventually("the update is done", func() bool {
		got, err := s.client.GetFunctionConfiguration(t.Context(), &sdk.GetFunctionConfigurationInput{FunctionName: aws.String("f")})
		return err == nil && got.LastUpdateStatus == types.LastUpdateStatusSuccessful
	})
	s.publish("f", "two")
	_, err = s.client.UpdateAlias(t.Context(), &sdk.UpdateAliasInput{FunctionName: aws.String("f"), Name: aws.String("live"), FunctionVersion: aws.String("2")})
	must(t, err)
	if got := s.provisioned("f", "live"); got.Status != types.ProvisionedConcurrencyStatusEnumInProgress && len(s.machine.ahead("2")) == 0 {
		t.Errorf("just moved: %s", got.Status)
	}
	s.waitReady("f", "live")
	s.wantKind("f", "live", "ahead 2")
	s.eventually("those of version 1 have ended", func() bool { return len(s.machine.ahead("1")) == 0 })
	s.wantKind("f", "1", "on-demand 1")
}

func TestAFunctionThatFailsToInitialiseIsNotProvisioned(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.publish("f", "one")
	s.machine.fails = true
	must(t, s.provision("f", "1", 2))
	s.eventually("it has FAILED", func() bool { return s.provisioned("f", "1").Status == types.ProvisionedConcurrencyStatusEnumFailed })
	got := s.provisioned("f", "1")
	if aws.ToString(got.StatusReason) != "FUNCTION_ERROR_INIT_FAILURE" || aws.ToInt32(got.AllocatedProvisionedConcurrentExecutions) != 0 {
		t.Errorf("failed with %q, %d allocated", aws.ToString(got.StatusReason), aws.ToInt32(got.AllocatedProvisionedConcurrentExecutions))
	}
	s.machine.mu.Lock()
	s.machine.fails = false
	s.machine.mu.Unlock()
	must(t, s.provision("f", "1", 2)) // put again: tried at once
	s.waitReady("f", "1")
}

func TestProvisionedConcurrencySurvivesARestart(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.publish("f", "one")
	must(t, s.provision("f", "1", 2))
	s.waitReady("f", "1")
	s.stop()
	again := newService(t, s.settings)
	again.waitReady("f", "1")
	again.wantKind("f", "1", "ahead 1")
}

func TestProvisionedConcurrencyErrors(t *testing.T) {
	s := newService(t, serviceSettings{})
	s.create("f")
	s.publish("f", "one")
	s.alias("f", "live", "1")
	s.alias("f", "draft", "$LATEST")
	const unpublished = "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
	wantInvalid(t, s.provision("f", "$LATEST", 1), unpublished)
	wantInvalid(t, s.provision("f", "draft", 1), unpublished)
	wantInvalid(t, s.provision("f", "1", 1001), "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [1000].")
	wantInvalid(t, s.provision("f", "1", 1000), "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100].")
	for _, c := range [][2]string{{"nosuch", "1"}, {"f", "10"}, {"f", "nosuch"}} {
		var missing *types.ResourceNotFoundException
		if err := s.provision(c[0], c[1], 1); !errors.As(err, &missing) {
			t.Errorf("%v: %v", c, err)
		}
	}
	_, err := s.client.GetProvisionedConcurrencyConfig(t.Context(), &sdk.GetProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("$LATEST")})
	wantInvalid(t, err, "The function resource provided must be an alias or a published version.")
	var none *types.ProvisionedConcurrencyConfigNotFoundException
	_, err = s.client.GetProvisionedConcurrencyConfig(t.Context(), &sdk.GetProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")})
	if !errors.As(err, &none) {
		t.Errorf("nothing provisioned: %v", err)
	}
	var conflict *types.ResourceConflictException
	must(t, s.provision("f", "1", 1))
	if err := s.provision("f", "live", 1); !errors.As(err, &conflict) {
		t.Errorf("alias of a provisioned version: %v", err)
	}
	del := &sdk.DeleteProvisionedConcurrencyConfigInput{FunctionName: aws.String("f"), Qualifier: aws.String("1")}
	for range 2 { // one that is not there is not an error
		_, err := s.client.DeleteProvisionedConcurrencyConfig(t.Context(), del)
		must(t, err)
	}
	must(t, s.provision("f", "live", 1))
	if err := s.provision("f", "1", 1); !errors.As(err, &conflict) {
		t.Errorf("version of a provisioned alias: %v", err)
	}
	list := func() []types.ProvisionedConcurrencyConfigListItem {
		out, err := s.client.ListProvisionedConcurrencyConfigs(t.Context(), &sdk.ListProvisionedConcurrencyConfigsInput{FunctionName: aws.String("f")})
		must(t, err)
		return out.ProvisionedConcurrencyConfigs
	}
	if l := list(); len(l) != 1 || aws.ToString(l[0].FunctionArn) != "arn:aws:lambda:us-east-1:000000000001:function:f:live" {
		t.Errorf("list: %+v", l)
	}
	_, err = s.client.DeleteAlias(t.Context(), &sdk.DeleteAliasInput{FunctionName: aws.String("f"), Name: aws.String("live")})
	must(t, err)
	if l := list(); len(l) != 0 {
		t.Errorf("after the alias was deleted: %+v", l)
	}
	s.wantSettings(1000, 1000, 1)
}

func TestProvisionedEnvironmentsAreFoundAtThePoolsFirstManager(t *testing.T) {
	wired(t, func(t *testing.T, w wiring) {
		want := manager.Provision{ID: manager.ProvisionID{Account: account, Function: "f", Qualifier: "1"}, Pool: unreserved}
		v := &lambda.Version{Account: account, Function: "f", Number: lambda.Latest, ConfigID: "c1", MemoryMB: 128}
		want.Targets = []manager.ProvisionTarget{{Version: v, Count: 3, Key: lambda.EnvironmentKey{
			Account: account, Function: "f", Version: lambda.Latest, ConfigID: "c1", Runtime: "r1"}}}
		c := newCluster(t, w, options{managers: 8, frontends: 2, quota: 10, limit: 0, manager: func(cfg *manager.Config) {
			cfg.Provisions = func() []manager.Provision { return []manager.Provision{want} }
		}})
		c.provisioned = true
		defer c.start()()
		first := c.managers[c.order()[0]]
		for deadline := time.Now().Add(patience); first.m.ProvisionStatus(want).Current < 3; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("not provisioned")
			}
		}
		if first.edge != nil { // as a frontend in another process asks
			there, err := first.edge.Provisioned(t.Context(), lambda.ProvisionedRequest{Account: account, Function: "f", Qualifier: "1",
				Keys: []lambda.EnvironmentKey{want.Targets[0].Key}})
			if want := (lambda.ProvisionedAnswer{Allocated: 3, Current: 3}); err != nil || there != want {
				t.Errorf("over the wire: %+v, %v, want %+v", there, err, want)
			}
		}
		for i := range 3 { // although the pool has no room for calls that are not provisioned
			c.mustBegin(i%2, "f")
		}
		c.wantThrottled(0, "f", lambda.ReasonConcurrency)
		if n := c.worker.countOf(c.order()[0]); n != 3 || c.worker.made != 3 {
			t.Errorf("%d calls on the first manager, %d environments made, want 3 and 3", n, c.worker.made)
		}
		c.worker.endAll()
	})
}
