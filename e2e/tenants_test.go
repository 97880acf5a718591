package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"berth/client"
)

func isolated(in *lambda.CreateFunctionInput) {
	in.TenancyConfig = &types.TenancyConfig{TenantIsolationMode: types.TenantIsolationModePerTenant}
}

func withToken(in *lambda.CreateFunctionInput) {
	in.Tags = map[string]string{"berth:tenant-token": tokenAudience}
}

const tokenAudience = "https://data.example.com"

// callAs invokes a function for a tenant and reads its answer.
func callAs(t *testing.T, c *client.Client, name, tenant string, answer any) {
	t.Helper()
	out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, TenantId: &tenant})
	if out.FunctionError != nil {
		t.Fatalf("tenant %s: %s", tenant, out.Payload)
	}
	if err := json.Unmarshal(out.Payload, answer); err != nil {
		t.Fatalf("%s: %v", out.Payload, err)
	}
}

// tracker leaves whatever it can behind, and tells what it finds of those before it.
const tracker = `
import os, subprocess, sys, uuid
ENVIRONMENT = uuid.uuid4().hex
MEMORY, FILES = [], []
INIT = [k + "=" + v for k, v in os.environ.items()]

def processes():
    found = []
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            try:
                parts = open("/proc/" + pid + "/cmdline").read().split("\0")
            except OSError:
                continue
            found += [p for p in parts if p.startswith("left-by-")]
    return found

def descriptors():
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink("/proc/self/fd/" + fd))
        except OSError:
            pass
    return [f for f in found if "left-by-" in f]

def handler(event, context):
    mark = "left-by-" + context.tenant_id
    seen = {"memory": list(MEMORY), "files": [f for f in os.listdir("/tmp") if f.startswith("left-by-")], "processes": processes(),
            "descriptors": descriptors(), "environment": [v for v in os.environ.values() if v.startswith("left-by-")]}
    MEMORY.append(mark)
    FILES.append(open("/tmp/" + mark, "w"))
    os.environ["MARK"] = mark
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", mark])
    return {"seen": seen, "in": ENVIRONMENT, "tenant": context.tenant_id, "token": context.tenant_token, "init": INIT, "shown": repr(context)}
`

type tracked struct {
	Seen   map[string][]string
	In     string
	Tenant string
	Token  string
	Init   []string
	Shown  string
}

func TestF1_TenantsNeverSeeOneAnother(t *testing.T) {
	c := sharedClient(t)
	name := "tenants-f1"
	python(t, c, name, tracker, isolated, timeout(30))
	ran := map[string]string{}
	for round := range 4 {
		for _, tenant := range []string{"blue", "green", "a b@c/d"} {
			mark := "left-by-" + tenant
			if strings.Contains(tenant, "/") { // no file is called so
				tenant, mark = "red", "left-by-red"
			}
			var got tracked
			callAs(t, c, name, tenant, &got)
			for what, list := range got.Seen {
				if slices.ContainsFunc(list, func(s string) bool { return !strings.Contains(s, mark) }) {
					t.Errorf("tenant %s sees %s of others: %q", tenant, what, list)
				}
				if round > 0 && len(list) == 0 {
					t.Errorf("round %d: tenant %s does not find its own %s again", round, tenant, what)
				}
			}
			if got.Tenant != tenant || round > 0 && got.In != ran[tenant] {
				t.Errorf("round %d: tenant %s ran as %q in %s, before in %s", round, tenant, got.Tenant, got.In, ran[tenant])
			}
			for _, variable := range got.Init {
				if strings.Contains(variable, "left-by-") || strings.HasSuffix(variable, "="+tenant) {
					t.Errorf("at its initialisation tenant %s's environment knew %s", tenant, variable)
				}
			}
			ran[tenant] = got.In
		}
	}
	if len(ran) != 3 || ran["blue"] == ran["green"] || ran["blue"] == ran["red"] || ran["green"] == ran["red"] {
		t.Errorf("tenants ran in %v", ran)
	}
}

func TestF7_MissingAndForbiddenTenants(t *testing.T) {
	c := sharedClient(t)
	python(t, c, "tenants-f7", "def handler(event, context):\n    return context.tenant_id\n", isolated)
	python(t, c, "tenants-f7-plain", "def handler(event, context):\n    return context.tenant_id\n")
	call := func(name string, tenant *string) string {
		_, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, TenantId: tenant})
		if err == nil {
			return ""
		}
		return err.Error()
	}
	if got := call("tenants-f7", nil); !strings.Contains(got, "StatusCode: 400") ||
		!strings.Contains(got, "The invoked function is enabled with tenancy configuration. Add a valid tenant ID in your request and try again.") {
		t.Errorf("without a tenant: %s", got)
	}
	if got := call("tenants-f7-plain", aws.String("blue")); !strings.Contains(got, "StatusCode: 400") || !strings.Contains(got, "not enabled with tenancy configuration") {
		t.Errorf("with a tenant, and no isolation: %s", got)
	}
	if got := call("tenants-f7-plain", nil); got != "" {
		t.Error(got)
	}
}

// checkToken verifies a token by what the server publishes.
func checkToken(t *testing.T, endpoint, text, function, tenant string) {
	t.Helper()
	response, err := http.Get(endpoint + "/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var keys jose.JSONWebKeySet
	if err := json.NewDecoder(response.Body).Decode(&keys); err != nil {
		t.Fatal(err)
	}
	token, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatalf("%q is no token: %v", text, err)
	}
	var standard jwt.Claims
	var own struct {
		Account     string `json:"account"`
		Function    string `json:"function"`
		Version     string `json:"version"`
		Tenant      string `json:"tenant"`
		Environment string `json:"environment"`
	}
	key := keys.Key(token.Headers[0].KeyID)
	if len(key) != 1 {
		t.Fatalf("the token's key is not published: %+v", keys)
	}
	if err := token.Claims(&key[0], &standard, &own); err != nil {
		t.Fatal(err)
	}
	if err := standard.Validate(jwt.Expected{Issuer: "urn:berth", AnyAudience: jwt.Audience{tokenAudience}, Time: time.Now()}); err != nil {
		t.Error(err)
	}
	if own.Account != "000000000001" || own.Function != function || own.Version != "$LATEST" || own.Tenant != tenant || own.Environment == "" {
		t.Errorf("claims %+v", own)
	}
	if life := standard.Expiry.Time().Sub(standard.IssuedAt.Time()); life > 15*time.Minute {
		t.Errorf("the token lives for %v", life)
	}
}

func TestF9_FunctionsSeeTheirTenantAndToken(t *testing.T) {
	c := sharedClient(t)
	t.Run("python", func(t *testing.T) {
		name := "tenants-f9-python"
		python(t, c, name, tracker, isolated, withToken)
		var first, second tracked
		callAs(t, c, name, "blue", &first)
		callAs(t, c, name, "blue", &second)
		checkToken(t, shared.Client.Endpoint, first.Token, name, "blue")
		if first.Tenant != "blue" || first.In != second.In || first.Token == second.Token {
			t.Errorf("%+v, then %+v: expected another token in the same environment", first, second)
		}
		if strings.Contains(first.Shown, first.Token) {
			t.Error("the context shows the token when it is printed")
		}
		var plain tracked
		python(t, c, "tenants-f9-none", tracker, isolated)
		if callAs(t, c, "tenants-f9-none", "blue", &plain); plain.Token != "" {
			t.Error("a function that did not ask for tokens got one")
		}
	})
	t.Run("node", func(t *testing.T) {
		name := "tenants-f9-node"
		in := &lambda.CreateFunctionInput{FunctionName: &name, Runtime: types.Runtime(nodeRuntime(t)), Handler: aws.String("index.handler"),
			Code: &types.FunctionCode{ZipFile: zipOf(t, "index.mjs", `
export const handler = async (event, context) => ({ Tenant: context.tenantId, Token: context.tenantToken, Shown: JSON.stringify(context) });`)}}
		isolated(in)
		withToken(in)
		create(t, c, in)
		var got tracked
		callAs(t, c, name, "blue", &got)
		checkToken(t, shared.Client.Endpoint, got.Token, name, "blue")
		if got.Tenant != "blue" || strings.Contains(got.Shown, got.Token) {
			t.Errorf("%+v", got)
		}
	})
	t.Run("go", func(t *testing.T) {
		name := "tenants-f9-go"
		in := &lambda.CreateFunctionInput{FunctionName: &name, Runtime: types.RuntimeProvidedal2023, Handler: aws.String("bootstrap"),
			Code: &types.FunctionCode{ZipFile: goZip(t, "x")}}
		isolated(in)
		create(t, c, in)
		var got tracked
		if callAs(t, c, name, "blue", &got); got.Tenant != "blue" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("boto3", func(t *testing.T) {
		if exec.Command("python3", "-c", "import boto3").Run() != nil {
			t.Skip("python3 with boto3 is not here")
		}
		name := "tenants-f9-boto3"
		python(t, c, name, "def handler(event, context):\n    return context.tenant_id\n", isolated)
		cmd := exec.Command("python3", "-c", "import boto3; print(boto3.client('lambda').invoke(FunctionName='"+name+"', TenantId='blue')['Payload'].read().decode())")
		cmd.Env = append(os.Environ(), berthEnv(t)...)
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != `"blue"` {
			t.Errorf("%s, %v", out, err)
		}
	})
}

func TestF12_LogsAndFiguresCarryTheTenant(t *testing.T) {
	c := sharedClient(t)
	name := "tenants-f12"
	python(t, c, name, "import logging\ndef handler(event, context):\n    logging.getLogger().warning('said by the function')\n", isolated,
		func(in *lambda.CreateFunctionInput) {
			in.LoggingConfig = &types.LoggingConfig{LogFormat: types.LogFormatJson}
		})
	for _, tenant := range []string{"blue", "blue", "green"} {
		invoke(t, c, &lambda.InvokeInput{FunctionName: &name, TenantId: &tenant})
	}
	waitForLog(t, c, "/aws/lambda/"+name, `"tenantId":"green"`)
	var all string
	for _, kind := range []string{"platform.start", "platform.report", "said by the function"} {
		all = waitForLog(t, c, "/aws/lambda/"+name, kind)
		for _, line := range strings.Split(all, "\n") {
			if strings.Contains(line, kind) && !strings.Contains(line, `"tenantId":"blue"`) && !strings.Contains(line, `"tenantId": "blue"`) &&
				!strings.Contains(line, `"tenantId":"green"`) && !strings.Contains(line, `"tenantId": "green"`) {
				t.Errorf("a line of the log names no tenant: %s", line)
			}
		}
	}
	if out, errs, code := berth(t, berthEnv(t), "invoke", name, "--tenant-id", "green", "--data", dataDir()); code != 0 {
		t.Fatalf("berth invoke --tenant-id: %s %s", out, errs)
	}
	out, errs, code := berth(t, berthEnv(t), "tenants", name, "--data", dataDir())
	if code != 0 || !strings.Contains(out, "TENANT") {
		t.Fatalf("berth tenants: %d %s %s", code, out, errs)
	}
	list, err := c.Tenants(t.Context(), name)
	if err != nil || len(list.Tenants) != 2 || list.Tenants[0] != (client.TenantStatus{Tenant: "blue", Environments: 1, Calls: 2}) ||
		list.Tenants[1] != (client.TenantStatus{Tenant: "green", Environments: 1, Calls: 2}) {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestF2_TenantsAcrossProcesses: every frontend sends a tenant to its environment, whichever manager has it, and a token that one
// has signed is verified by what another one publishes.
func TestF2_TenantsAcrossProcesses(t *testing.T) {
	p := startProcesses(t, 2, 2, "--pool-quota", "10")
	name := "tenants-processes"
	python(t, p.frontends[0], name, tracker, isolated, withToken)
	for _, c := range p.frontends {
		waitActive(t, c, name)
	}
	tenants := []string{"blue", "green", "red", "black"}
	ran := map[string]string{}
	for round := range 4 {
		for i, tenant := range tenants {
			var got tracked
			callAs(t, p.frontends[(round+i)%2], name, tenant, &got)
			if round > 0 && got.In != ran[tenant] {
				t.Errorf("round %d: tenant %s ran in another environment", round, tenant)
			}
			if got.Tenant != tenant || slices.ContainsFunc(got.Seen["memory"], func(s string) bool { return s != "left-by-"+tenant }) {
				t.Errorf("tenant %s sees %+v", tenant, got)
			}
			ran[tenant] = got.In
			if round == 3 {
				checkToken(t, p.endpoints[(round+i+1)%2], got.Token, name, tenant)
			}
		}
	}
	list, err := p.frontends[1].Tenants(t.Context(), name)
	if err != nil || list.Partial || len(list.Tenants) != 4 || list.Tenants[0].Calls != 4 || list.Tenants[3].Environments != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestF10_AsynchronousCallsKeepTheirTenant: events of several tenants wait in lanes of their own, and run in their tenants'
// environments.
func TestF10_AsynchronousCallsKeepTheirTenant(t *testing.T) {
	c := sharedClient(t)
	name := "tenants-f10"
	python(t, c, name, "def handler(event, context):\n    print('event', event['n'], 'of', context.tenant_id)\n", isolated)
	for i, tenant := range []string{"blue", "green", "red", "blue"} {
		_, err := c.Lambda.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: &name, TenantId: &tenant, InvocationType: types.InvocationTypeEvent,
			Payload: fmt.Appendf(nil, `{"n":%d}`, i)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{"event 0 of blue", "event 1 of green", "event 2 of red", "event 3 of blue"} {
		waitForLog(t, c, "/aws/lambda/"+name, line)
	}
}
