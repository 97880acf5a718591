package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/clientfile"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		out  string
		err  string
	}{
		{[]string{}, 0, "Available Commands", ""},
		{[]string{"--help"}, 0, "berth deploy", ""},
		{[]string{"nonsense"}, 2, "", "unknown command"},
		{[]string{"list", "--nonsense"}, 2, "", "unknown flag"},
		{[]string{"invoke"}, 2, "", "accepts 1 arg"},
		{[]string{"version"}, 0, "berth ", ""},
		{[]string{"version", "--json"}, 0, `"platform":`, ""},
		{[]string{"serve", "--log-level", "loud"}, 2, "", "debug, info, warn, error"},
		{[]string{"serve", "--log-format", "xml"}, 2, "", "text or json"},
		{[]string{"serve", "--dev-credentials", "--addr", "0.0.0.0:9000"}, 2, "", "only this machine"},
		{[]string{"serve", "--dev-credentials", "--addr", ":9000"}, 2, "", "only this machine"},
		{[]string{"serve", "--pprof", "0.0.0.0:6060"}, 2, "", "only this machine"},
		{[]string{"serve", "--metrics", "0.0.0.0:9100"}, 2, "", "only this machine"},
		{[]string{"serve", "--region", "x y"}, 2, "", "like us-east-1"},
		{[]string{"list"}, 1, "", "--data DIR"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) { command(t, nil, "", c.args...).want(t, c.code, c.out, c.err) })
	}
}

func TestFindsTheServer(t *testing.T) {
	_, data := newDouble(t)
	file, err := clientfile.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"AWS_ENDPOINT_URL_LAMBDA": file.Endpoint, "AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S", "HOME": t.TempDir(),
	}
	command(t, env, "", "list").want(t, 0, "no functions yet", "")
	command(t, env, "", "list", "--data", t.TempDir()).want(t, 1, "", "no server has started") // --data goes first

	home := t.TempDir()
	if err := os.Rename(data, filepath.Join(home, ".berth")); err != nil {
		t.Fatal(err)
	}
	command(t, map[string]string{"HOME": home}, "", "list").want(t, 0, "no functions yet", "")

	delete(env, "AWS_SECRET_ACCESS_KEY")
	command(t, env, "", "list").want(t, 1, "", "AWS_SECRET_ACCESS_KEY is not")
}

func TestNobodyAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint := "http://" + listener.Addr().String()
	listener.Close()
	data := t.TempDir()
	if err := clientfile.Save(data, clientfile.File{Endpoint: endpoint, AccessKeyID: "A", SecretAccessKey: "S", Region: "us-east-1"}); err != nil {
		t.Fatal(err)
	}
	want := "no berth server answers at " + endpoint + ": start one with `berth serve`"
	command(t, nil, "", "list", "--data", data).want(t, 1, "", want)
	command(t, nil, "", "logs", "hello", "--data", data).want(t, 1, "", want)
	command(t, nil, "", "list", "--data", data, "--json").want(t, 1, "", `"code":"unreachable"`)
}

func TestEnv(t *testing.T) {
	_, data := newDouble(t)
	file, _ := clientfile.Load(data)
	r := command(t, map[string]string{"AWS_SESSION_TOKEN": "old"}, "", "env", "--data", data)
	r.want(t, 0, `export AWS_SECRET_ACCESS_KEY='it'\''s/secret+'`+"\n", "")
	r.want(t, 0, "unset AWS_SESSION_TOKEN\n", "")
	if sh, err := exec.LookPath("sh"); err == nil { // a shell must read back what was written
		out, err := exec.Command(sh, "-c", r.out+`printf '%s|%s' "$AWS_SECRET_ACCESS_KEY" "$AWS_ENDPOINT_URL_LAMBDA"`).Output()
		if err != nil || string(out) != file.SecretAccessKey+"|"+file.Endpoint {
			t.Errorf("a shell reads %q, %v", out, err)
		}
	}
	var object map[string]string
	r = command(t, nil, "", "env", "--json", "--data", data)
	if err := json.Unmarshal([]byte(r.out), &object); err != nil || object["AWS_REGION"] != "us-east-1" || object["AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] != file.Endpoint ||
		object["AWS_ENDPOINT_URL_STS"] != file.Endpoint {
		t.Errorf("%v: %s", err, r.out)
	}
}

func TestShellQuote(t *testing.T) {
	for text, want := range map[string]string{"": "''", "plain-1.0/x:y": "plain-1.0/x:y", "a b": "'a b'", "$x": "'$x'", "a'b": `'a'\''b'`} {
		if got := shellQuote(text); got != want {
			t.Errorf("%q becomes %s, want %s", text, got, want)
		}
	}
}

func TestServe(t *testing.T) {
	data := filepath.Join(t.TempDir(), "new", "data")
	serve := func(result error, stop bool) (string, string, int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out, errs strings.Builder
		code := Run(ctx, Config{
			Args: []string{"serve", "--data", data, "--addr", "127.0.0.1:0", "--dev-credentials", "--log-level", "debug", "--log-format", "json"}, Getenv: os.Getenv,
			Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
			Serve: func(ctx context.Context, o ServeOptions) error {
				if o.DataDir != data || o.Addr != "127.0.0.1:0" || o.Region != "us-east-1" || !o.DevCredentials || !o.Log.Enabled(ctx, slog.LevelDebug) {
					t.Errorf("options %+v", o)
				}
				o.Ready("http://127.0.0.1:4711")
				if stop {
					cancel()
				}
				return result
			},
		})
		return out.String(), errs.String(), code
	}
	if out, errs, code := serve(nil, true); code != 0 || out != "berth ready on http://127.0.0.1:4711\n" {
		t.Errorf("stopped: %q %q %d", out, errs, code)
	}
	if _, errs, code := serve(errors.New("another server uses this data"), false); code != 1 || !strings.Contains(errs, "another server uses this data") {
		t.Errorf("failed: %q %d", errs, code)
	}
	if _, errs, code := serve(errors.New("a sandbox is stuck"), true); code != 1 || !strings.Contains(errs, "a sandbox is stuck") {
		t.Errorf("stopped badly: %q %d", errs, code)
	}
	if info, err := os.Stat(data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v, %v; want mode 0700", info, err)
	}
}

func answer(payload, functionError, log string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if functionError != "" {
			w.Header().Set("X-Amz-Function-Error", functionError)
		}
		if r.Header.Get("X-Amz-Log-Type") == "Tail" {
			w.Header().Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString([]byte(log)))
		}
		w.Header().Set("X-Amz-Executed-Version", "$LATEST")
		if r.Header.Get("X-Amz-Invocation-Type") == "Event" {
			w.WriteHeader(http.StatusAccepted)
			return
		}
		if payload == "echo" {
			io.Copy(w, r.Body)
			return
		}
		io.WriteString(w, payload)
	}
}

func TestInvoke(t *testing.T) {
	d, data := newDouble(t)
	d.functions["hello"] = map[string]any{"FunctionName": "hello", "State": "Active"}
	d.invoke = answer("echo", "", "START\nsaid\n")
	invoke := func(stdin string, args ...string) result {
		t.Helper()
		return command(t, nil, stdin, append([]string{"invoke", "hello", "--data", data}, args...)...)
	}
	invoke("").want(t, 0, "{}\n", "")
	invoke("", "--payload", `{"a":1}`, "--tail").want(t, 0, `{"a":1}`+"\n", "START\nsaid\n")
	invoke("[1,2]", "--payload", "-").want(t, 0, "[1,2]\n", "")
	file := write(t, filepath.Join(t.TempDir(), "event.json"), `"from a file"`)
	invoke("", "--payload", "@"+file).want(t, 0, `"from a file"`, "")
	invoke("", "--payload", "@"+file+".not").want(t, 1, "", "no such file")
	invoke("", "--payload", "bare words").want(t, 2, "", "is not JSON")
	invoke("", "--async").want(t, 0, "", "accepted")
	invoke("", "--json", "--tail").want(t, 0, `{"executedVersion":"$LATEST","log":"START\nsaid\n","payload":{},"statusCode":200}`, "")
	command(t, nil, "", "invoke", "nobody", "--data", data).want(t, 1, "", "`berth list` shows")
}

func TestInvokeFails(t *testing.T) {
	d, data := newDouble(t)
	d.functions["hello"] = map[string]any{"FunctionName": "hello", "State": "Active"}
	for name, c := range map[string]struct{ payload, want string }{
		"Python": {`{"errorType":"ValueError","errorMessage":"broken","stackTrace":["  File \"/var/task/app.py\", line 2\n"]}`, "hello failed: ValueError broken\n    File \"/var/task/app.py\", line 2\n"},
		"Node":   {`{"errorType":"TypeError","errorMessage":"broken","trace":["TypeError: broken","    at x"]}`, "    at x\n"},
		"Go":     {`{"errorType":"errorString","errorMessage":"broken","stackTrace":[{"path":"main.go","line":7,"label":"main"}]}`, "main (main.go:7)"},
		"other":  {`"just text"`, `hello failed (Unhandled): "just text"`},
	} {
		t.Run(name, func(t *testing.T) {
			d.invoke = answer(c.payload, "Unhandled", "")
			command(t, nil, "", "invoke", "hello", "--data", data).want(t, 1, c.payload, c.want)
			command(t, nil, "", "invoke", "hello", "--data", data, "--json").want(t, 1, `"functionError":"Unhandled"`, "")
		})
	}
}

func TestInterrupted(t *testing.T) {
	d, data := newDouble(t)
	d.functions["hello"] = map[string]any{"FunctionName": "hello", "State": "Active"}
	ctx, cancel := context.WithCancel(t.Context())
	d.invoke = func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then does the server notice that the client went away
		cancel()
		<-r.Context().Done()
	}
	var out, errs strings.Builder
	code := Run(ctx, Config{Args: []string{"invoke", "hello", "--data", data}, Getenv: os.Getenv, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
	if code != 130 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit code %d, %q", code, errs.String())
	}
}

func TestListAndDelete(t *testing.T) {
	d, data := newDouble(t)
	d.functions["hello"] = map[string]any{"FunctionName": "hello", "Runtime": "python3.12", "Handler": "app.handler", "MemorySize": 256,
		"Timeout": 30, "CodeSize": 2500, "LastModified": "not a date"}
	command(t, nil, "", "list", "--data", data).want(t, 0, "hello  python3.12  app.handler  256 MB  30 s     2.5 kB  not a date\n", "")
	command(t, nil, "", "list", "--data", data, "--json").want(t, 0, `"function":"hello"`, "")
	command(t, nil, "y\n", "delete", "hello", "--data", data).want(t, 2, "", "--yes")
	command(t, nil, "", "delete", "nobody", "--data", data, "--yes").want(t, 1, "", "`berth list`")
	command(t, nil, "", "delete", "hello", "--data", data, "--yes").want(t, 0, "deleted hello\n", "")
	if len(d.functions) != 0 {
		t.Error("the function is still there")
	}
}

func TestAccount(t *testing.T) {
	_, data := newDouble(t)
	command(t, nil, "", "account", "show", "--data", data).want(t, 0, "000000000001  1000         10        5            985", "")
	command(t, nil, "", "account", "set", "--data", data).want(t, 2, "", "concurrency")
	command(t, nil, "", "account", "set", "--concurrency", "5000", "--json", "--data", data).want(t, 0, `"concurrency":5000`, "")
}

func TestLogs(t *testing.T) {
	d, data := newDouble(t)
	d.functions["hello"] = map[string]any{"FunctionName": "hello", "LoggingConfig": map[string]any{"LogGroup": "/custom"}}
	now := time.Now().UnixMilli()
	d.logs = func(w http.ResponseWriter, r *http.Request) {
		var query map[string]any
		json.NewDecoder(r.Body).Decode(&query)
		if since := now - int64(query["startTime"].(float64)); query["logGroupName"] != "/custom" || since < 3500_000 || since > 3700_000 {
			t.Errorf("query %v", query)
		}
		json.NewEncoder(w).Encode(map[string]any{"events": []any{
			map[string]any{"eventId": "1", "timestamp": now, "message": "first\n"}, map[string]any{"eventId": "2", "timestamp": now, "message": "second\n"},
		}})
	}
	r := command(t, nil, "", "logs", "hello", "--data", data, "--since", "1h")
	r.want(t, 0, " first\n", "")
	r.want(t, 0, " second\n", "")
	command(t, nil, "", "logs", "hello", "--data", data, "--since", "1h", "--json").want(t, 0, `"message":"first\n"`, "")
	command(t, nil, "", "logs", "nobody", "--data", data).want(t, 1, "", "`berth list`")
}

// TestFollowShowsEachLineOnce: the server answers the same lines at every question, and one more each time.
func TestFollowShowsEachLineOnce(t *testing.T) {
	d, data := newDouble(t)
	d.functions["hello"] = map[string]any{"FunctionName": "hello"}
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	d.logs = func(w http.ResponseWriter, r *http.Request) {
		asked++
		if asked == 3 {
			cancel()
		}
		events := []any{}
		for i := range asked {
			events = append(events, map[string]any{"eventId": string(rune('a' + i)), "timestamp": time.Now().UnixMilli(), "message": "line " + string(rune('a'+i))})
		}
		json.NewEncoder(w).Encode(map[string]any{"events": events})
	}
	var out, errs strings.Builder
	code := Run(ctx, Config{Args: []string{"logs", "hello", "-f", "--data", data}, Getenv: os.Getenv, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs})
	if code != 130 || strings.Count(out.String(), "line a") != 1 || strings.Count(out.String(), "line b") != 1 {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
}
