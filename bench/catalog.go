package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/internal/serverproc"
)

const (
	makers   = 64  // functions that are made at the same time
	maxPages = 500 // pages of the list that are timed
	restarts = 3

	barListPage = 50   // milliseconds, with 100,000 functions
	barStart    = 2000 // milliseconds, with 100,000 functions
)

// catalog measures a server with very many functions: a page of their list, and its start.
func (b *bench) catalog(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "berth-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t, err := b.startTarget(ctx, dir)
	if err != nil {
		return err
	}
	started := time.Now()
	err = b.makeMany(ctx, t)
	took := time.Since(started)
	t.Close()
	if err := errors.Join(err, t.server.Stop()); err != nil {
		return err
	}
	if b.functions > 0 {
		if err := b.report.add(row{Metric: "catalog.create", Value: float64(b.functions) / took.Seconds(), Unit: "1/s"}); err != nil {
			return err
		}
	}
	if err := b.restartTimes(ctx, dir); err != nil {
		return err
	}
	return b.listPages(ctx, dir)
}

// makeMany makes all functions through the API, as users would.
func (b *bench) makeMany(ctx context.Context, t *target) error {
	zipped, err := helloZip(ctx, "python")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var running sync.WaitGroup
	for range makers {
		running.Go(func() {
			for n := next.Add(1); n <= int64(b.functions) && ctx.Err() == nil; n = next.Add(1) {
				_, err := t.Lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
					FunctionName: aws.String(fmt.Sprintf("many-%06d", n)), Runtime: "provided.al2023", Handler: aws.String("bootstrap"),
					Role: aws.String(role), Code: &types.FunctionCode{ZipFile: zipped},
				})
				if err != nil {
					cancel(err)
				}
				if n%10_000 == 0 {
					fmt.Fprintf(b.log, "%d functions made\n", n)
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

func (b *bench) restartTimes(ctx context.Context, dir string) error {
	best := time.Duration(0)
	for range restarts {
		server, err := serverproc.Start(ctx, serverproc.Config{Binary: b.binary, DataDir: dir, Args: []string{"--log-level", "warn"}, Log: b.log})
		if err != nil {
			return err
		}
		if best == 0 || server.StartTook < best {
			best = server.StartTook
		}
		if err := server.Stop(); err != nil {
			return err
		}
	}
	start := row{Metric: "catalog.start", Value: milliseconds(best), Unit: "ms", Floor: milliseconds(b.floor.startTook)}
	return b.report.add(bar(start, fmt.Sprintf("≤ %d ms", barStart), func(r row) bool { return r.Value <= barStart }))
}

func (b *bench) listPages(ctx context.Context, dir string) (err error) {
	t, err := b.startTarget(ctx, dir)
	if err != nil {
		return err
	}
	defer func() {
		t.Close()
		err = errors.Join(err, t.server.Stop())
	}()
	s, seen := newSample(), 0
	pages := lambda.NewListFunctionsPaginator(t.Lambda, &lambda.ListFunctionsInput{})
	for n := 0; n < maxPages && pages.HasMorePages(); n++ {
		started := time.Now()
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		if err := s.times.RecordValue(time.Since(started).Nanoseconds()); err != nil {
			return err
		}
		seen += len(page.Functions)
	}
	if want := min(b.functions, maxPages*50); seen < want {
		return fmt.Errorf("the list shows %d functions in %d pages, want %d", seen, maxPages, want)
	}
	floor, err := b.floorAlone(ctx)
	if err != nil {
		return err
	}
	p50 := row{Metric: "catalog.list.p50", Value: milliseconds(s.quantile(50)), Unit: "ms", Floor: milliseconds(floor.quantile(50))}
	p99 := row{Metric: "catalog.list.p99", Value: milliseconds(s.quantile(99)), Unit: "ms", Floor: milliseconds(floor.quantile(99))}
	p99 = bar(p99, fmt.Sprintf("≤ %d ms", barListPage), func(r row) bool { return r.Value <= barListPage })
	return errors.Join(b.report.add(p50), b.report.add(p99))
}
