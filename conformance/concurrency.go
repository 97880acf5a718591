package conformance

import "time"

const (
	concurrencyTests = "invoke::TestLambdaConcurrency::"
	initType         = "import os\nimport time\n\ndef handler(event, context):\n    time.sleep(event.get('wait', 0))\n    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
)

func concurrencyScenarios() []scenario {
	return []scenario{
		{id: concurrencyTests + "test_provisioned_concurrency", runtime: "python3.12", run: func(s *session) { provisionedFive(s, "") }},
		{id: concurrencyTests + "test_provisioned_concurrency_on_alias", runtime: "python3.12", run: func(s *session) { provisionedFive(s, "alias-"+uid()) }},
		{id: concurrencyTests + "test_lambda_provisioned_concurrency_scheduling", runtime: "python3.12", run: provisionedScheduling},
		{id: concurrencyTests + "test_lambda_provisioned_concurrency_moves_with_alias", runtime: "python3.8", run: provisionedMoves,
			kinds: map[string]string{"alias-name": `[a-zA-Z0-9_-]+`}},
	}
}

// provisionable makes a function whose handler returns its initialization type, and publishes version 1.
func (s *session) provisionable(name string) {
	s.Helper()
	s.create(name, params{"Handler": "handler.handler", "Timeout": 10, "Code": params{"ZipFile": zipped("handler.py", initType)}})
	s.ok("PublishVersion", params{"FunctionName": name})
	s.waitVersion(name, "1")
}

// waitProvisioned polls until provisioned concurrency is ready.
func (s *session) waitProvisioned(name, qualifier string) map[string]any {
	s.Helper()
	for deadline := time.Now().Add(waitLimit); ; {
		a := s.ok("GetProvisionedConcurrencyConfig", params{"FunctionName": name, "Qualifier": qualifier})
		switch {
		case a["Status"] == "READY":
			return a
		case a["Status"] == "FAILED" || time.Now().After(deadline):
			s.Fatalf("provisioned concurrency of %s:%s: %v", name, qualifier, a)
		}
		select {
		case <-s.Context().Done():
			s.Fatal(s.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wantInitType invokes a qualifier and checks what kind of environment ran it.
func (s *session) wantInitType(name, qualifier, want string) {
	s.Helper()
	a := s.ok("Invoke", params{"FunctionName": name, "Qualifier": qualifier, "Payload": []byte("{}")})
	if a["Payload"] != `"`+want+`"` {
		s.Errorf("%s:%s ran %v, want %s", name, qualifier, a["Payload"], want)
	}
}

func provisionedFive(s *session, alias string) {
	name := "test_lambda_" + uid()
	s.provisionable(name)
	qualifier := "1"
	if alias != "" {
		qualifier = alias
		s.ok("CreateAlias", params{"FunctionName": name, "Name": alias, "FunctionVersion": "1"})
	}
	p := params{"FunctionName": name, "Qualifier": qualifier}
	s.note("put_provisioned_5", s.ok("PutProvisionedConcurrencyConfig", with(p, params{"ProvisionedConcurrentExecutions": 5})))
	s.note("get_provisioned_prewait", s.ok("GetProvisionedConcurrencyConfig", p))
	s.note("get_provisioned_postwait", s.waitProvisioned(name, qualifier))
	s.wantInitType(name, qualifier, "provisioned-concurrency")
	s.wantInitType(name, "$LATEST", "on-demand")
}

func provisionedScheduling(s *session) {
	name := "fn-concurrency-" + uid()
	s.provisionable(name)
	p := params{"FunctionName": name, "Qualifier": "1"}
	s.ok("PutProvisionedConcurrencyConfig", with(p, params{"ProvisionedConcurrentExecutions": 1}))
	s.note("get_provisioned_postwait", s.waitProvisioned(name, "1"))
	s.wantInitType(name, "1", "provisioned-concurrency")
	done := make(chan any, 1)
	go func() { done <- s.call("Invoke", with(p, params{"Payload": []byte(`{"wait":1}`)}))["Payload"] }()
	select { // until the first call runs
	case <-time.After(300 * time.Millisecond):
	case <-s.Context().Done():
	}
	s.wantInitType(name, "1", "on-demand")
	if first := <-done; first != `"provisioned-concurrency"` {
		s.Errorf("the first of two calls at once ran %v", first)
	}
}

func provisionedMoves(s *session) {
	name, alias := "test_lambda_"+uid(), "test_alias_"+uid()
	fn := params{"FunctionName": name}
	at1, moving := with(fn, params{"Qualifier": "1"}), with(fn, params{"Qualifier": alias})
	s.note("create-result", s.fixture(name, params{"Timeout": 2, "Runtime": "python3.8", "Code": params{"ZipFile": zipped("handler.py", initType)}}))
	latest := s.ok("GetFunctionConfiguration", with(fn, params{"Qualifier": "$LATEST"}))
	s.note("get-function-configuration", latest)
	s.note("publish_version_1", s.ok("PublishVersion", with(fn, params{"RevisionId": latest["RevisionId"], "Description": "my-first-version"})))
	s.note("get_function_configuration_version_1", s.ok("GetFunctionConfiguration", at1))
	s.wantInitType(name, "1", "on-demand")
	s.note("create_alias", s.ok("CreateAlias", with(fn, params{"FunctionVersion": "1", "Name": alias})))
	s.note("get_function_before_provisioned", s.ok("GetFunction", at1))
	s.ok("PutProvisionedConcurrencyConfig", with(moving, params{"ProvisionedConcurrentExecutions": 1}))
	s.waitProvisioned(name, alias)
	s.note("get_function_after_provisioned", s.ok("GetFunction", moving))
	s.wantInitType(name, "1", "provisioned-concurrency")
	s.wantInitType(name, alias, "provisioned-concurrency")

	s.ok("UpdateFunctionConfiguration", with(fn, params{"Timeout": 10}))
	s.wait(name)
	changed := s.ok("GetFunctionConfiguration", fn)
	s.note("get_function_after_update", changed)
	s.note("publish_version_2", s.ok("PublishVersion", with(fn, params{"RevisionId": changed["RevisionId"]})))
	s.note("update_alias", s.ok("UpdateAlias", with(fn, params{"FunctionVersion": "2", "Name": alias})))
	s.note("get_provisioned_config_after_alias_move", s.ok("GetProvisionedConcurrencyConfig", moving))
	s.waitProvisioned(name, alias)
	s.wantEventually(name, "1", "on-demand")
	s.wantInitType(name, "2", "provisioned-concurrency")
	s.wantInitType(name, alias, "provisioned-concurrency")
	s.note("provisioned_concurrency_notfound", s.call("GetProvisionedConcurrencyConfig", with(fn, params{"Qualifier": "2"})))
}

// wantEventually is wantInitType for an environment that is about to be replaced.
func (s *session) wantEventually(name, qualifier, want string) {
	s.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s.ok("Invoke", params{"FunctionName": name, "Qualifier": qualifier, "Payload": []byte("{}")})["Payload"] == `"`+want+`"` {
			return
		}
	}
	s.wantInitType(name, qualifier, want)
}
