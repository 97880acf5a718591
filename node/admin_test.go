package node

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/admin"
	"berth/catalog"
	"berth/control"
	"berth/lambda"
	"berth/members"
	"berth/store/memory"
)

// heard is what the ring controller hears: managers that all live, for long.
type heard struct{ view *members.View }

func (h heard) View() *members.View    { return h.view }
func (heard) Listening() time.Duration { return time.Hour }

// operator is the API over a catalog in memory and a ring controller.
func operator(t *testing.T, ids ...string) (ask func(account lambda.AccountID, method, path, body string) (int, string), cat *catalog.Catalog) {
	t.Helper()
	var tracked []*members.Tracked
	for _, id := range ids {
		tracked = append(tracked, &members.Tracked{Member: members.Member{ID: id, Role: members.Manager, Quota: 10}})
	}
	view := members.NewView(tracked...)
	log := slog.New(slog.DiscardHandler)
	cat = catalog.New(memory.NewCatalog(), "us-east-1")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = cat.Run(ctx) })
	running.Go(func() { _ = control.Rings(cat, heard{view}, log).Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	for deadline := time.Now().Add(time.Minute); cat.RingVersion() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no ring was made")
		}
	}
	var caller lambda.AccountID
	o := &operations{catalog: cat, log: log, managers: func() []lambda.ManagerID { return staying(view) },
		authorize: func(_ *http.Request, _ string, who lambda.Caller, action, resource string) error {
			if who.Restricted {
				return lambda.Errorf(lambda.AccessDenied, "not %s on %s", action, resource)
			}
			return nil
		},
		authenticate: func(*http.Request, []byte) (lambda.Caller, error) {
			if caller == "" {
				return lambda.Caller{}, lambda.Errorf("InvalidSignatureException", "who are you?")
			}
			account, restricted := strings.CutSuffix(string(caller), " restricted")
			return lambda.Caller{Account: lambda.AccountID(account), Restricted: restricted}, nil
		},
		status: func(context.Context) (admin.Status, error) { return admin.Status{Earlier: 4711}, nil },
	}
	return func(account lambda.AccountID, method, path, body string) (int, string) {
		caller = account
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		if !o.handles(r) {
			return 0, ""
		}
		o.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}, cat
}

func TestOperatorsDeployRings(t *testing.T) {
	ask, cat := operator(t, "a", "b", "c")
	deploy := func(path, body string) admin.Ring {
		t.Helper()
		code, answer := ask(catalog.FirstAccount, "POST", path, body)
		var r admin.Ring
		if err := json.Unmarshal([]byte(answer), &r); code != 200 || err != nil {
			t.Fatalf("%s %s: %d %s", path, body, code, answer)
		}
		return r
	}
	if r := deploy(admin.RingsPath, `{"managers":["b","gone"],"q":7}`); r.Version != 2 || r.Quota != 7 || !slices.Equal(r.Members, []string{"b"}) || !r.Pinned {
		t.Errorf("deployed %+v", r)
	}
	if r := deploy(admin.RollbackPath, `{}`); r.Version != 3 || r.Quota != 10 || len(r.Members) != 3 || r.Pinned {
		t.Errorf("rolled back to %+v", r)
	}
	if r := deploy(admin.RollbackPath, `{"to":2}`); r.Version != 4 || r.Quota != 7 || !slices.Equal(r.Members, []string{"b"}) || !strings.HasPrefix(r.Reason, "rolled back to version 2;") {
		t.Errorf("rolled back to %+v", r)
	}
	if r := deploy(admin.RingsPath, `{}`); r.Version != 5 || r.Quota != 7 || len(r.Members) != 3 {
		t.Errorf("deployed %+v", r)
	}
	_, answer := ask(catalog.FirstAccount, "GET", admin.RingsPath, "")
	var all admin.Rings
	if err := json.Unmarshal([]byte(answer), &all); err != nil || len(all.Rings) != 5 || all.Rings[0].State != "current" || all.Rings[4].State != "superseded" {
		t.Errorf("%v: %s", err, answer)
	}
	if cat.RingVersion().Version != 5 {
		t.Error("the catalog has another ring")
	}
}

func TestOperatorsAreRefused(t *testing.T) {
	ask, _ := operator(t, "a")
	for name, c := range map[string]struct {
		account            lambda.AccountID
		method, path, body string
		code               int
		want               string
	}{
		"nobody":          {"", "GET", admin.ClusterPath, "", 403, "who are you"},
		"another account": {"000000000002", "GET", admin.ClusterPath, "", 403, "Only the first account"},
		"a reader":        {catalog.FirstAccount + " restricted", "POST", admin.RingsPath, "{}", 403, "not berth:DeployRing on arn:aws:berth:us-east-1:000000000001:cluster"},
		"no JSON":         {catalog.FirstAccount, "POST", admin.RingsPath, "{", 400, "JSON"},
		"bad quota":       {catalog.FirstAccount, "POST", admin.RingsPath, `{"q":-1}`, 400, "above 0"},
		"unknown manager": {catalog.FirstAccount, "POST", admin.RingsPath, `{"managers":["x"]}`, 400, "Those that do: a"},
		"unknown version": {catalog.FirstAccount, "POST", admin.RollbackPath, `{"to":99}`, 404, "no such"},
		"other method":    {catalog.FirstAccount, "DELETE", admin.RingsPath, "", 400, "none of"},
		"too large":       {catalog.FirstAccount, "POST", admin.RingsPath, strings.Repeat(" ", maxAdminBody+1), 413, "smaller"},
		"no aborting":     {catalog.FirstAccount + " restricted", "POST", admin.RolloutsPath + "/python3.11", `{"action":"abort"}`, 403, "not berth:AbortRollout"},
		"no reading":      {catalog.FirstAccount + " restricted", "GET", admin.RolloutsPath + "/python3.11", "", 403, "not berth:GetRollout"},
		"no such rollout": {catalog.FirstAccount, "GET", admin.RolloutsPath + "/python3.11", "", 404, "no rollout"},
		"no such action":  {catalog.FirstAccount, "POST", admin.RolloutsPath + "/python3.11", `{"action":"jump"}`, 400, "pause"},
		"bad limit":       {catalog.FirstAccount, "GET", admin.RolloutsPath + "/python3.11?limit=x", "", 400, "limit"},
		"fine":            {catalog.FirstAccount, "GET", admin.ClusterPath, "", 200, "4711"},
	} {
		if code, answer := ask(c.account, c.method, c.path, c.body); code != c.code || !strings.Contains(answer, c.want) {
			t.Errorf("%s: %d %s, want %d and %q", name, code, answer, c.code, c.want)
		}
	}
	if code, _ := ask(catalog.FirstAccount, "GET", "/berth/v1/account", ""); code != 0 {
		t.Error("another API's path was taken")
	}
}

func TestEnginesAreNamedWhole(t *testing.T) {
	if got, err := engineHosts("nats://a:1,nats://b:2"); err != nil || !slices.Equal(got, []string{"a:1", "b:2"}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "nats://a", "nats://a:1,b:2", "http://a:1", "nats://user@a:1"} {
		if _, err := engineHosts(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	good := Config{EngineCluster: "a:1", EngineRoutes: []string{"nats://b:1", "c:1"}}
	if c, err := engineCluster(good, "e1"); err != nil || c.Name != "e1" || !slices.Equal(c.Routes, []string{"b:1", "c:1"}) {
		t.Errorf("%+v, %v", c, err)
	}
	for _, bad := range []Config{{EngineCluster: "a:1", EngineRoutes: []string{"b:1"}}, {EngineCluster: "a", EngineRoutes: []string{"b:1", "c:1"}}} {
		if _, err := engineCluster(bad, ""); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
