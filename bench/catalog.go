package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/internal/serverproc"
	"berth/store"
	"berth/store/jetstream"
)

const (
	madeByAPI = 500 // functions that are made through the API
	makers    = 16  // of them at the same time
	maxBatch  = 500 // records in one write, see store.Catalog
	maxPages  = 500 // pages of the list that are timed
	restarts  = 3

	barListPage = 50   // milliseconds, with 100,000 functions
	barStart    = 2000 // milliseconds, with 100,000 functions
)

// catalog measures a server with very many functions: how fast they are made, a page of their list, and its start.
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
	err = b.makeThroughAPI(ctx, t)
	took := time.Since(started)
	t.Close()
	if err := errors.Join(err, t.server.Stop()); err != nil {
		return err
	}
	if err := b.report.add(row{Metric: "catalog.create", Value: madeByAPI / took.Seconds(), Unit: "1/s"}); err != nil {
		return err
	}
	started = time.Now()
	if err := multiply(ctx, filepath.Join(dir, "engine"), b.functions-madeByAPI); err != nil {
		return fmt.Errorf("filling the catalog: %w", err)
	}
	fmt.Fprintf(b.log, "%d functions written in %s\n", b.functions-madeByAPI, time.Since(started).Round(time.Millisecond))
	if err := b.restartTimes(ctx, dir); err != nil {
		return err
	}
	return b.listPages(ctx, dir)
}

// makeThroughAPI makes the first functions as users would.
func (b *bench) makeThroughAPI(ctx context.Context, t *target) error {
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
			for n := next.Add(1); n <= madeByAPI && ctx.Err() == nil; n = next.Add(1) {
				_, err := t.Lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
					FunctionName: aws.String(manyName(n)), Runtime: "provided.al2023", Handler: aws.String("bootstrap"),
					Role: aws.String(role), Code: &types.FunctionCode{ZipFile: zipped},
				})
				if err == nil {
					err = waitReady(ctx, t.Client, manyName(n))
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}

// manyName names the n-th function; all names have the same length.
func manyName(n int64) string { return fmt.Sprintf("many-%07d", n) }

// multiply writes more functions into the engine of a stopped server: copies of the first one's records under other
// names, many in one batch. Whatever form the records have, what the server reads is what it would have written.
func multiply(ctx context.Context, engineDir string, count int) (err error) {
	engine, err := jetstream.Open(ctx, jetstream.Config{Dir: engineDir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	pattern, err := recordsOf(ctx, engine.Catalog(), manyName(1))
	if err != nil {
		return err
	}
	if len(pattern) == 0 || len(pattern) > maxBatch {
		return fmt.Errorf("the catalog has %d records of %s, expected 1–%d", len(pattern), manyName(1), maxBatch)
	}
	var batch []store.Op
	for n := range int64(count) {
		for _, entry := range pattern {
			key := strings.ReplaceAll(string(entry.Key), manyName(1), manyName(madeByAPI+1+n))
			value := bytes.ReplaceAll(entry.Value, []byte(manyName(1)), []byte(manyName(madeByAPI+1+n)))
			batch = append(batch, store.Create(store.Key(key), value))
		}
		if len(batch)+len(pattern) > maxBatch || n == int64(count)-1 {
			if _, err := engine.Catalog().Apply(ctx, batch...); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return nil
}

// recordsOf returns all entries whose keys have a name in them.
func recordsOf(ctx context.Context, catalog store.Catalog, name string) ([]store.Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var found []store.Entry
	seenAll := false
	err := catalog.Watch(ctx, "", func(entry store.Entry) {
		if strings.Contains(string(entry.Key), name) {
			entry.Value = bytes.Clone(entry.Value)
			found = append(found, entry)
		}
	}, func(store.Revision) {
		seenAll = true
		cancel()
	})
	if !seenAll {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	return found, nil
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
