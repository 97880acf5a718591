package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
	"berth/code"
	"berth/internal/serverproc"
)

const (
	// oneCore is as much memory, in MB, as gives a function one core; least is the least that a function can have.
	oneCore = 1769
	least   = 128
	// readyWithin bounds the wait for a function to become active or updated.
	readyWithin = time.Minute
	role        = "arn:aws:iam::000000000001:role/bench"
)

// bench is one run.
type bench struct {
	options
	report     *report
	log        io.Writer
	floor      floor
	generation int // of configurations: each forces a cold start
}

// target is a server with the hello functions.
type target struct {
	*client.Client
	server    *serverproc.Server
	addr      string
	languages []string // that the server can run: the names of functions, too
}

// withServer gives a part of the benchmark a fresh server with the hello functions.
func (b *bench) withServer(part func(context.Context, *target) error) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		dir, err := os.MkdirTemp("", "berth-bench-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		t, err := b.startTarget(ctx, dir)
		if err != nil {
			return err
		}
		defer func() {
			t.Close()
			err = errors.Join(err, t.server.Stop())
		}()
		if err := b.deployAll(ctx, t); err != nil {
			return err
		}
		return part(ctx, t)
	}
}

func (b *bench) startTarget(ctx context.Context, dataDir string) (*target, error) {
	server, err := serverproc.Start(ctx, serverproc.Config{Binary: b.binary, DataDir: dataDir, Args: append([]string{"--log-level", "warn"}, b.serve...), Log: b.log})
	if err != nil {
		return nil, err
	}
	return &target{Client: client.New(server.Client), server: server, addr: strings.TrimPrefix(server.URL, "http://")}, nil
}

// hello is the hello function of a language; prefix begins the names of its runtimes.
type hello struct{ language, prefix, handler string }

var hellos = []hello{
	{"python", "python", "app.handler"}, {"node", "nodejs", "app.handler"}, {"go", "provided.al2023", "bootstrap"},
}

// runtimeOf names the runtime of f that the server has, "" if none.
func (t *target) runtimeOf(f hello) string {
	i := slices.IndexFunc(t.Server().Runtimes, func(name string) bool { return strings.HasPrefix(name, f.prefix) })
	if i < 0 {
		return ""
	}
	return t.Server().Runtimes[i]
}

// deployAll deploys the three hello functions; a language whose runtime the server lacks is left out, and said.
func (b *bench) deployAll(ctx context.Context, t *target) error {
	for _, f := range hellos {
		runtime := t.runtimeOf(f)
		if runtime == "" {
			fmt.Fprintf(b.log, "left out: the server has no %s runtime\n", f.prefix)
			continue
		}
		zipped, err := helloZip(ctx, f.language)
		if err != nil {
			return err
		}
		_, err = t.Lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
			FunctionName: aws.String(f.language), Runtime: types.Runtime(runtime), Handler: aws.String(f.handler),
			Role: aws.String(role), MemorySize: aws.Int32(oneCore), Timeout: aws.Int32(60), Code: &types.FunctionCode{ZipFile: zipped},
		})
		if err != nil {
			return err
		}
		if err := waitReady(ctx, t.Client, f.language); err != nil {
			return err
		}
		t.languages = append(t.languages, f.language)
	}
	if len(t.languages) == 0 {
		return errors.New("the server can run none of the hello functions")
	}
	return nil
}

// helloZip packs the hello function of a language; the Go one is built first.
func helloZip(ctx context.Context, language string) ([]byte, error) {
	source := filepath.Join("bench", "testdata", language)
	if language != "go" {
		return code.Zip(source)
	}
	dir, err := os.MkdirTemp("", "berth-bench-go-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := buildGo(ctx, dir); err != nil {
		return nil, err
	}
	return code.Zip(dir)
}

// buildGo builds the Go hello function into a directory, and returns the program's path.
func buildGo(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "bootstrap")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", program, "./"+filepath.Join("bench", "testdata", "go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the Go function: %w\n%s", err, out)
	}
	return program, nil
}

// setMemory changes the memory of a function, in MB.
func setMemory(ctx context.Context, t *target, function string, megabytes int32) error {
	_, err := t.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{FunctionName: &function, MemorySize: &megabytes})
	if err != nil {
		return err
	}
	return waitReady(ctx, t.Client, function)
}

// waitReady waits until a function can be called with its newest configuration.
func waitReady(ctx context.Context, c *client.Client, name string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		out, err := c.Lambda.GetFunctionConfiguration(ctx, &lambda.GetFunctionConfigurationInput{FunctionName: &name})
		switch {
		case err != nil:
			return err
		case out.State == types.StateFailed || out.LastUpdateStatus == types.LastUpdateStatusFailed:
			return fmt.Errorf("%s failed: %s %s", name, aws.ToString(out.StateReason), aws.ToString(out.LastUpdateStatusReason))
		case out.State == types.StateActive && out.LastUpdateStatus == types.LastUpdateStatusSuccessful:
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// signedInvoke returns the bytes of a signed Invoke request. They are good for five minutes.
func signedInvoke(ctx context.Context, t *target, function, payload string) ([]byte, error) {
	return signed(ctx, t, function, payload, "RequestResponse")
}

// signedEvent is signedInvoke for an asynchronous invocation.
func signedEvent(ctx context.Context, t *target, function string) ([]byte, error) {
	return signed(ctx, t, function, "{}", "Event")
}

func signed(ctx context.Context, t *target, function, payload, kind string) ([]byte, error) {
	url := t.server.URL + "/2015-03-31/functions/" + function + "/invocations"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader([]byte(payload)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "berth-bench")
	if kind != "RequestResponse" {
		req.Header.Set("X-Amz-Invocation-Type", kind)
	}
	sum := sha256.Sum256([]byte(payload))
	creds := aws.Credentials{AccessKeyID: t.Server().AccessKeyID, SecretAccessKey: t.Server().SecretAccessKey}
	err = v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(sum[:]), "lambda", t.Server().Region, time.Now())
	if err != nil {
		return nil, err
	}
	return rawRequest(req)
}
