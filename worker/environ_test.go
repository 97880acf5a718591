package worker

import (
	"slices"
	"strings"
	"testing"

	"berth/lambda"
	"berth/runtimes"
)

// The names that functions found on AWS, without those that the runtime sets itself (recorded 12 and 13-01-2026).
var recordedNames = strings.Fields(`AWS_ACCESS_KEY_ID AWS_DEFAULT_REGION AWS_EXECUTION_ENV AWS_LAMBDA_FUNCTION_MEMORY_SIZE
	AWS_LAMBDA_FUNCTION_NAME AWS_LAMBDA_FUNCTION_VERSION AWS_LAMBDA_INITIALIZATION_TYPE AWS_LAMBDA_LOG_GROUP_NAME
	AWS_LAMBDA_LOG_STREAM_NAME AWS_LAMBDA_RUNTIME_API AWS_REGION AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_XRAY_CONTEXT_MISSING
	AWS_XRAY_DAEMON_ADDRESS LAMBDA_RUNTIME_DIR LAMBDA_TASK_ROOT LANG PWD SHLVL TEST_KEY TZ _AWS_XRAY_DAEMON_ADDRESS
	_AWS_XRAY_DAEMON_PORT _HANDLER`)

func TestEnvironAsRecorded(t *testing.T) {
	v := testVersion()
	v.Env = map[string]string{"TEST_KEY": "TEST_VAL"}
	for runtime, lacks := range map[string][]string{"python3.12": nil, "provided.al2023": {"AWS_EXECUTION_ENV", "PWD", "SHLVL"}} {
		env := environ(v, &runtimes.Runtime{Name: runtime}, "stream", &Credentials{"id", "secret", "token"}, false)
		var names []string
		for _, pair := range env {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
		want := slices.DeleteFunc(slices.Clone(recordedNames), func(n string) bool { return slices.Contains(lacks, n) })
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%s:\n got %v\nwant %v", runtime, names, want)
		}
	}
}

func TestEnvironLayers(t *testing.T) {
	v := testVersion()
	v.Logging = lambda.Logging{Format: lambda.JSON, ApplicationLevel: "DEBUG"}
	v.Env = map[string]string{"AWS_REGION": "mine", "_HANDLER": "mine", "AWS_ACCESS_KEY_ID": "mine", "PATH": "/mine", "TZ": "CET", "NUL": "a\x00b", "_X_AMZN_TRACE_ID": "x"}
	env := environ(v, &runtimes.Runtime{Name: "python3.12", Env: []string{"PATH=/var/lang/bin", "PYTHONPATH=/var/runtime"}}, "stream", nil, true)
	for _, want := range []string{"AWS_REGION=us-east-1", "_HANDLER=h.handler", "PATH=/mine", "TZ=CET", "PYTHONPATH=/var/runtime", "AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_LAMBDA_LOG_LEVEL=DEBUG", "AWS_LAMBDA_INITIALIZATION_TYPE=provisioned-concurrency",
		"AWS_LAMBDA_RUNTIME_API=169.254.100.1:9001", "AWS_EXECUTION_ENV=AWS_Lambda_python3.12", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	for _, pair := range env {
		if strings.HasPrefix(pair, "AWS_ACCESS") || strings.HasPrefix(pair, "NUL") || strings.HasPrefix(pair, "_X_AMZN") {
			t.Errorf("must not be there: %q", pair)
		}
	}
}
