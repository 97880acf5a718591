package worker

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"berth/lambda"
	"berth/runtimes"
)

// X-Ray's daemon address, as every function finds it. Nothing listens there.
const xrayHost, xrayPort = "169.254.100.1", "2000"

// initTypeVariable tells a function whether its environment was made for a call or ahead of it.
const initTypeVariable = "AWS_LAMBDA_INITIALIZATION_TYPE"

// environ returns the environment of a runtime process, as recorded 12-01-2026 (python3.12, nodejs20.x, provided.al2023).
// The trace id is no part of it: the runtime sets it for each invocation.
//
// Three layers: defaults that a function's own variables may replace, those variables, and the platform's, which are
// reserved (developer guide, "defined runtime environment variables").
func environ(v *lambda.Version, rt *runtimes.Runtime, stream string, creds *Credentials, ahead bool) []string {
	vars := map[string]string{
		"LANG":                     "en_US.UTF-8",
		"TZ":                       ":UTC",
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS":  xrayHost + ":" + xrayPort,
		"_AWS_XRAY_DAEMON_ADDRESS": xrayHost,
		"_AWS_XRAY_DAEMON_PORT":    xrayPort,
	}
	if !isProvided(rt.Name) && v.Image == nil { // set by the shell that starts a managed runtime
		vars["PWD"], vars["SHLVL"] = taskRoot, "0"
	}
	for _, pair := range rt.Env {
		name, value, _ := strings.Cut(pair, "=")
		vars[name] = value
	}
	maps.Copy(vars, v.Env)
	platformVariables(vars, v, rt, stream, creds)
	if ahead {
		vars[initTypeVariable] = "provisioned-concurrency"
	}

	env := make([]string, 0, len(vars))
	for name, value := range vars {
		if strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0) {
			continue // cannot be passed to a process; the API refuses it, this is the last line
		}
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	return env
}

// platformVariables sets the reserved variables, and removes those that do not apply.
func platformVariables(vars map[string]string, v *lambda.Version, rt *runtimes.Runtime, stream string, creds *Credentials) {
	maps.Copy(vars, map[string]string{
		"_HANDLER":                        v.Handler,
		"AWS_REGION":                      v.Region,
		"AWS_DEFAULT_REGION":              v.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        v.Function,
		"AWS_LAMBDA_FUNCTION_VERSION":     v.Number,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(v.MemoryMB),
		"AWS_LAMBDA_LOG_GROUP_NAME":       logGroup(v),
		"AWS_LAMBDA_LOG_STREAM_NAME":      stream,
		initTypeVariable:                  "on-demand",
		"AWS_LAMBDA_RUNTIME_API":          apiAddress.String(),
		"LAMBDA_TASK_ROOT":                taskRoot,
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
	})
	for _, name := range []string{"_X_AMZN_TRACE_ID", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL",
		"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		delete(vars, name)
	}
	if !isProvided(rt.Name) {
		vars["AWS_EXECUTION_ENV"] = "AWS_Lambda_" + rt.Name
	}
	if v.Image != nil { // its own entry point knows the handler
		delete(vars, "_HANDLER")
	}
	if v.Logging.Format == lambda.JSON {
		vars["AWS_LAMBDA_LOG_FORMAT"] = string(lambda.JSON)
		vars["AWS_LAMBDA_LOG_LEVEL"] = cmp.Or(v.Logging.ApplicationLevel, "INFO")
	}
	if creds != nil {
		vars["AWS_ACCESS_KEY_ID"] = creds.AccessKeyID
		vars["AWS_SECRET_ACCESS_KEY"] = creds.SecretAccessKey
		vars["AWS_SESSION_TOKEN"] = creds.SessionToken
	}
}
