package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

const (
	sustainedCallers = 4 // at the same time: enough to keep two cores busy
	makersOfColds    = 16
)

// targetSustained is how many cold calls a second each language must bear.
var targetSustained = map[string]float64{"go": 200, "python": 45}

// sustained measures how many cold calls a second the server bears: many functions, each called once. Environments that are not needed
// any more are ended meanwhile, as memory asks for it.
func (b *bench) sustained(ctx context.Context, t *target) error {
	for i, f := range hellos {
		runtime := t.runtimeOf(f)
		if runtime == "" || len(b.languages) > 0 && !slices.Contains(b.languages, f.language) {
			continue
		}
		zipped, err := helloZip(ctx, f.language)
		if err != nil {
			return err
		}
		name := func(n int64) string { return fmt.Sprintf("cold-%d-%07d", i, n) }
		err = parallel(ctx, makersOfColds, int64(b.sustain), func(ctx context.Context, n int64) error {
			_, err := t.Lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
				FunctionName: aws.String(name(n)), Runtime: types.Runtime(runtime), Handler: aws.String(f.handler),
				Role: aws.String(role), MemorySize: aws.Int32(least), Code: &types.FunctionCode{ZipFile: zipped},
			})
			if err != nil {
				return err
			}
			return waitReady(ctx, t.Client, name(n))
		})
		if err != nil {
			return err
		}
		fmt.Fprintf(b.log, "calling: %s\n", f.language)
		began := time.Now()
		err = parallel(ctx, sustainedCallers, int64(b.sustain), func(ctx context.Context, n int64) error {
			out, err := t.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(name(n))})
			if err == nil && out.FunctionError != nil {
				err = errors.New(string(out.Payload))
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", f.language, err)
		}
		line := row{Metric: "cold." + f.language + ".sustained", Value: float64(b.sustain) / time.Since(began).Seconds(), Unit: "1/s"}
		if want, ok := targetSustained[f.language]; ok {
			line = bar(line, fmt.Sprintf("≥ %.0f/s", want), func(r row) bool { return r.Value >= want })
		}
		if err := b.report.add(line); err != nil {
			return err
		}
	}
	return nil
}

// parallel calls f with 1 to count, some at the same time, until one fails.
func parallel(ctx context.Context, atOnce int, count int64, f func(context.Context, int64) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var running sync.WaitGroup
	for range atOnce {
		running.Go(func() {
			for n := next.Add(1); n <= count && ctx.Err() == nil; n = next.Add(1) {
				if err := f(ctx, n); err != nil {
					cancel(err)
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
