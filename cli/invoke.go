package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/spf13/cobra"

	"berth/client"
	"berth/ui"
)

// maxPayloadRead bounds what is read from a file or standard input: more than any server takes, in bytes.
const maxPayloadRead = 64 << 20

type invokeFlags struct {
	payload, qualifier string
	tenant             string
	async, tail        bool
}

func (a *app) invokeCommand() *cobra.Command {
	var flags invokeFlags
	cmd := &cobra.Command{
		Use:   "invoke NAME",
		Short: "Call a function and print its answer",
		Long: `Call a function and print its answer on standard output. A function that fails gives exit code 1; what it says about
the failure goes to standard error.`,
		Example: `  berth invoke hello
  berth invoke hello --payload '{"name":"Ada"}' --tail
  berth invoke hello --payload @event.json --qualifier live
  echo '[1,2,3]' | berth invoke sum --payload -`,
		Args: cobra.ExactArgs(1),
	}
	cmd.RunE = a.withClient(func(ctx context.Context, c *client.Client, args []string) error {
		return a.invoke(ctx, c, args[0], flags)
	})
	cmd.Flags().StringVarP(&flags.payload, "payload", "p", "{}", "JSON, @FILE, or - for standard input")
	cmd.Flags().StringVarP(&flags.qualifier, "qualifier", "q", "", "version or alias to call (default $LATEST)")
	cmd.Flags().StringVar(&flags.tenant, "tenant-id", "", "tenant whose call it is, of a function with tenant isolation")
	cmd.Flags().BoolVar(&flags.async, "async", false, "hand the call over and do not wait for the answer")
	cmd.Flags().BoolVarP(&flags.tail, "tail", "t", false, "print the end of the call's log on standard error")
	return cmd
}

func (a *app) invoke(ctx context.Context, c *client.Client, name string, flags invokeFlags) error {
	payload, err := a.readPayload(flags.payload)
	if err != nil {
		return err
	}
	in := &lambda.InvokeInput{FunctionName: &name, Payload: payload}
	if flags.qualifier != "" {
		in.Qualifier = &flags.qualifier
	}
	if flags.tenant != "" {
		in.TenantId = &flags.tenant
	}
	if flags.async {
		in.InvocationType = types.InvocationTypeEvent
	} else if flags.tail {
		in.LogType = types.LogTypeTail
	}
	a.err.Progress("invoking %s …", name)
	out, err := c.Lambda.Invoke(ctx, in)
	a.err.Progress("")
	if err != nil {
		return explainMissing(err, name)
	}
	log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	if err != nil {
		return fmt.Errorf("the server's X-Amz-Log-Result is not base64: %w", err)
	}
	return a.printOutcome(name, out, string(log), flags.async)
}

// readPayload returns the bytes that --payload names, and refuses what is not JSON before it is sent.
func (a *app) readPayload(flag string) ([]byte, error) {
	payload, from := []byte(flag), "--payload"
	var err error
	switch path, isFile := strings.CutPrefix(flag, "@"); {
	case flag == "-":
		from = "standard input"
		payload, err = io.ReadAll(io.LimitReader(a.Stdin, maxPayloadRead))
	case isFile:
		from = path
		payload, err = readFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the payload: %w", err)
	}
	if !json.Valid(payload) {
		return nil, usagef("%s is not JSON; a text needs its quotes: --payload '\"text\"'", from)
	}
	return payload, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPayloadRead))
}

func (a *app) printOutcome(name string, out *lambda.InvokeOutput, log string, async bool) error {
	failed := aws.ToString(out.FunctionError)
	if a.json {
		if err := a.printJSON(invokeResult(out, log)); err != nil {
			return err
		}
	} else {
		if log != "" {
			a.err.Printf("%s\n", a.err.Paint(ui.Dim, strings.TrimRight(a.err.Untrusted(log), "\n")))
		}
		switch {
		case async:
			a.err.Printf("accepted: %s runs on its own; see `berth logs %s`\n", name, name)
		case failed == "" || !a.out.IsTerminal():
			a.out.Printf("%s\n", a.out.Untrusted(string(out.Payload)))
		}
		if failed != "" {
			a.printFunctionError(name, failed, out.Payload)
		}
	}
	if failed != "" {
		return &reportedError{fmt.Errorf("%s failed: %s", name, failed)}
	}
	return nil
}

// invokeResult is the one object that `berth invoke --json` prints.
func invokeResult(out *lambda.InvokeOutput, log string) map[string]any {
	result := map[string]any{"statusCode": out.StatusCode}
	if out.ExecutedVersion != nil {
		result["executedVersion"] = *out.ExecutedVersion
	}
	if out.FunctionError != nil {
		result["functionError"] = *out.FunctionError
	}
	if log != "" {
		result["log"] = log
	}
	switch {
	case json.Valid(out.Payload):
		result["payload"] = json.RawMessage(out.Payload)
	case len(out.Payload) > 0:
		result["payload"] = string(out.Payload)
	}
	return result
}

// printFunctionError shows a function's error with its stack, which each language spells in its own way.
func (a *app) printFunctionError(name, kind string, payload []byte) {
	var e struct {
		Type       string   `json:"errorType"`
		Message    string   `json:"errorMessage"`
		StackTrace []any    `json:"stackTrace"` // Python: strings; Go: objects
		Trace      []string `json:"trace"`      // Node
	}
	a.err.Printf("%s", a.err.Paint(ui.Red, name+" failed"))
	if json.Unmarshal(payload, &e) != nil || e.Type == "" && e.Message == "" {
		a.err.Printf(" (%s): %s\n", kind, a.err.Untrusted(string(payload)))
		return
	}
	a.err.Printf(": %s %s\n", a.err.Paint(ui.Bold, a.err.Untrusted(e.Type)), a.err.Untrusted(e.Message))
	for _, frame := range e.Trace {
		a.err.Printf("  %s\n", a.err.Paint(ui.Dim, a.err.Untrusted(frame)))
	}
	for _, frame := range e.StackTrace {
		a.err.Printf("  %s\n", a.err.Paint(ui.Dim, strings.TrimRight(a.err.Untrusted(frameText(frame)), "\n")))
	}
}

func frameText(frame any) string {
	switch f := frame.(type) {
	case string:
		return f
	case map[string]any: // aws-lambda-go: {"path":…,"line":…,"label":…}
		return fmt.Sprintf("%v (%v:%v)", f["label"], f["path"], f["line"])
	}
	return fmt.Sprint(frame)
}
