package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// barColdPython is the first bar of a cold call of Python: its median, in milliseconds.
const barColdPython = 60

// cold measures calls that need a new environment. A change of the configuration before each call forces that; the
// languages take turns, so that each finds the same machine.
func (b *bench) cold(ctx context.Context, t *target) error {
	c, err := dial(ctx, t.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	samples := map[string]*sample{}
	for generation := range b.colds {
		for _, language := range t.languages {
			if samples[language] == nil {
				samples[language] = newSample()
			}
			if err := b.coldCall(ctx, t, c, language, generation, samples[language]); err != nil {
				return fmt.Errorf("%s: %w", language, err)
			}
		}
	}
	floor50, floor99, err := b.floorTimes(ctx, t)
	if err != nil {
		return err
	}
	for _, language := range t.languages {
		s := samples[language]
		p50 := row{Metric: "cold." + language + ".p50", Value: milliseconds(s.quantile(50)), Unit: "ms", Floor: milliseconds(floor50)}
		if language == "python" {
			p50 = bar(p50, fmt.Sprintf("≤ %d ms", barColdPython), func(r row) bool { return r.Value <= barColdPython })
		}
		if err := b.report.add(p50); err != nil {
			return err
		}
		p99 := row{Metric: "cold." + language + ".p99", Value: milliseconds(s.quantile(99)), Unit: "ms", Floor: milliseconds(floor99)}
		if err := b.report.add(p99); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) coldCall(ctx context.Context, t *target, c *connection, function string, generation int, into *sample) error {
	_, err := t.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &function, Environment: &types.Environment{Variables: map[string]string{"GENERATION": strconv.Itoa(generation)}},
	})
	if err != nil {
		return err
	}
	if err := waitReady(ctx, t.Client, function); err != nil {
		return err
	}
	request, err := signedInvoke(ctx, t, function, "{}")
	if err != nil {
		return err
	}
	return c.timed(request, into)
}
