package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
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
		r, err := b.coldRate(ctx, t, name)
		if err != nil {
			return fmt.Errorf("%s: %w", f.language, err)
		}
		line := row{Metric: "cold." + f.language + ".sustained", Value: r.rate, Unit: "1/s"}
		if want, ok := targetSustained[f.language]; ok {
			line = bar(line, fmt.Sprintf("≥ %.0f/s", want), func(r row) bool { return r.Value >= want })
		}
		if err := b.report.add(line); err != nil {
			return err
		}
		if b.sustainFor == 0 {
			continue
		}
		decay := row{Metric: "cold." + f.language + ".sustained.end", Value: r.last, Unit: "1/s", Floor: r.first}
		decay = bar(decay, fmt.Sprintf("≥ %.2f × the beginning's", noDecay), func(r row) bool { return r.Ratio >= noDecay })
		if err := b.report.add(decay); err != nil {
			return err
		}
	}
	return nil
}

// noDecay is how much of the rate in the first fifth of a long measurement the last fifth must reach.
const noDecay = 0.9

// coldRates are how many cold calls a second a server bore: altogether, and in the first and the last fifth of the time.
type coldRates struct{ rate, first, last float64 }

// coldRate calls the functions in turn: each once, or round after round for b.sustainFor. More functions than the worker has room
// for environments are cold each time, since others' have ended theirs meanwhile; calls that were not cold do not count.
func (b *bench) coldRate(ctx context.Context, t *target, name func(int64) string) (coldRates, error) {
	began := time.Now()
	count, until := int64(b.sustain), time.Time{}
	if b.sustainFor > 0 {
		count, until = math.MaxInt64, began.Add(b.sustainFor)
	}
	var fifths [5]atomic.Int64
	err := parallel(ctx, sustainedCallers, count, func(ctx context.Context, n int64) error {
		if b.sustainFor > 0 && time.Now().After(until) {
			return errEnough
		}
		cold, err := invokeCold(ctx, t, name((n-1)%int64(b.sustain)+1))
		if cold {
			at := 0
			if b.sustainFor > 0 {
				at = min(4, int(5*time.Since(began)/b.sustainFor))
			}
			fifths[at].Add(1)
		}
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return coldRates{}, err
	}
	took := time.Since(began).Seconds()
	total := int64(0)
	for i := range fifths {
		total += fifths[i].Load()
	}
	r := coldRates{rate: float64(total) / took}
	if b.sustainFor > 0 {
		fifth := b.sustainFor.Seconds() / 5
		r.first, r.last = float64(fifths[0].Load())/fifth, float64(fifths[4].Load())/fifth
	}
	return r, nil
}

var errEnough = errors.New("the time is over")

// invokeCold calls a function, and reports whether an environment was made for it: its REPORT has an Init Duration then.
func invokeCold(ctx context.Context, t *target, name string) (cold bool, err error) {
	out, err := t.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: aws.String(name), LogType: types.LogTypeTail})
	if err != nil {
		return false, err
	}
	if out.FunctionError != nil {
		return false, errors.New(string(out.Payload))
	}
	log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult))
	return bytes.Contains(log, []byte("Init Duration")), err
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
