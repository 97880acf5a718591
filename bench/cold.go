package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// targetCold is what the median of cold calls of functions with one core must reach, in milliseconds.
var targetCold = map[string]float64{"python": 1.2, "node": 2.0, "go": 3.5}

// targetColdP99 is Python's 99th percentile, in milliseconds.
const targetColdP99 = 4

// coldPause is the time between cold calls: what one of them waits for is measured, not what the machine can sustain, which
// is another figure.
const coldPause = 100 * time.Millisecond

// cold measures calls that need a new environment. A change of the configuration before each call forces that; the
// languages take turns, so that each finds the same machine.
func (b *bench) cold(ctx context.Context, t *target) error {
	for _, size := range []struct {
		megabytes int32
		suffix    string
	}{{oneCore, ""}, {least, ".128MB"}} {
		for _, language := range t.languages {
			if err := setMemory(ctx, t, language, size.megabytes); err != nil {
				return err
			}
		}
		if err := b.coldWith(ctx, t, size.suffix); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) coldWith(ctx context.Context, t *target, suffix string) error {
	c, err := dial(ctx, t.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	samples := map[string]*sample{}
	for range b.colds {
		for _, language := range t.languages {
			if samples[language] == nil {
				samples[language] = newSample()
			}
			if err := b.coldCall(ctx, t, c, language, samples[language]); err != nil {
				return fmt.Errorf("%s%s: %w", language, suffix, err)
			}
		}
	}
	floor, err := b.floorAlone(ctx)
	if err != nil {
		return err
	}
	for _, language := range t.languages {
		name, s := "cold."+language+suffix, samples[language]
		p50 := row{Metric: name + ".p50", Value: milliseconds(s.quantile(50)), Unit: "ms", Floor: milliseconds(floor.quantile(50))}
		if want := targetCold[language]; suffix == "" {
			p50 = bar(p50, fmt.Sprintf("≤ %.1f ms", want), func(r row) bool { return r.Value <= want })
		}
		p99 := row{Metric: name + ".p99", Value: milliseconds(s.quantile(99)), Unit: "ms", Floor: milliseconds(floor.quantile(99))}
		if language == "python" && suffix == "" {
			p99 = bar(p99, fmt.Sprintf("≤ %d ms", targetColdP99), func(r row) bool { return r.Value <= targetColdP99 })
		}
		if err := errors.Join(b.report.add(p50), b.report.add(p99)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) coldCall(ctx context.Context, t *target, c *connection, function string, into *sample) error {
	b.generation++
	_, err := t.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &function, Environment: &types.Environment{Variables: map[string]string{"GENERATION": strconv.Itoa(b.generation)}},
	})
	if err != nil {
		return err
	}
	if err := waitReady(ctx, t.Client, function); err != nil {
		return err
	}
	if err := pause(ctx, coldPause); err != nil {
		return err
	}
	request, err := signedInvoke(ctx, t, function, "{}")
	if err != nil {
		return err
	}
	return c.timed(request, into)
}
