package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/code"
	"berth/internal/procfs"
)

const (
	soakClients   = 64
	soakFunctions = 4 // that misbehave
	soakChange    = 200 * time.Millisecond
	soakWarm      = time.Minute // memory is compared with that after so long: buffers and pools have their sizes then
	soakEnd       = 2 * time.Minute
)

// held is what a server holds of the machine.
type held struct {
	rss                                  int64 // bytes
	files, threads, processes, cgs, mnts int
}

// look counts what the server and the processes below it hold. cgs are sandboxes' memory groups.
func look(pid int) (h held, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && fields[0] == "VmRSS:":
			h.rss, _ = strconv.ParseInt(fields[1], 10, 64)
			h.rss <<= 10
		case len(fields) > 1 && fields[0] == "Threads:":
			h.threads, _ = strconv.Atoi(fields[1])
		}
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return h, err
	}
	below, err := procfs.Descendants(pid)
	if err != nil {
		return h, err
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if err != nil {
		return h, err
	}
	groups := map[string]bool{}
	for _, p := range below {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p)) // it may have ended
		groups[string(text)] = true
	}
	h.files, h.processes, h.mnts, h.cgs = len(files), len(below), strings.Count(string(mounts), "\n"), len(groups)
	return h, nil
}

// soak calls functions that work, fail, crash, take too long and take too much memory from many clients, while
// configurations change, and then compares what the server holds with before.
func (b *bench) soak(ctx context.Context, t *target) error {
	if err := pause(ctx, settle); err != nil {
		return err
	}
	before, err := look(t.server.PID())
	if err != nil {
		return err
	}
	names, err := b.deploySoak(ctx, t)
	if err != nil {
		return err
	}
	calling, cancel := context.WithTimeout(ctx, b.length)
	defer cancel()
	var calls, failures, changes atomic.Int64
	var running sync.WaitGroup
	for range soakClients {
		running.Go(func() {
			for calling.Err() == nil {
				if err := soakCall(calling, t, names); err != nil && calling.Err() == nil {
					if failures.Add(1) <= 5 {
						fmt.Fprintf(b.log, "soak: %v\n", err)
					}
				}
				calls.Add(1)
			}
		})
	}
	running.Go(func() {
		for pause(calling, soakChange) == nil {
			if err := b.changeSoak(calling, t, names); err == nil {
				changes.Add(1)
			}
		}
	})
	warm := before
	if pause(calling, min(soakWarm, b.length/2)) == nil {
		warm, err = look(t.server.PID())
	}
	running.Wait()
	after, lerr := look(t.server.PID())
	if err := errors.Join(err, lerr, ctx.Err()); err != nil {
		return err
	}
	fmt.Fprintf(b.log, "soak: %d calls, %d refused, %d changes of configurations\n", calls.Load(), failures.Load(), changes.Load())
	left, err := b.endSoak(ctx, t, names, before)
	if err != nil {
		return err
	}
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	for _, line := range []row{
		{Metric: "soak.calls", Value: float64(calls.Load()) / b.length.Seconds(), Unit: "1/s"},
		{Metric: "soak.rss", Value: mb(after.rss), Unit: "MB", Floor: mb(warm.rss)},
		{Metric: "soak.threads", Value: float64(after.threads), Floor: float64(warm.threads)},
		{Metric: "soak.left.rss", Value: mb(left.rss), Unit: "MB", Floor: mb(before.rss)},
		{Metric: "soak.left.files", Value: float64(left.files), Floor: float64(before.files)},
		{Metric: "soak.left.processes", Value: float64(left.processes), Floor: float64(before.processes)},
		{Metric: "soak.left.groups", Value: float64(left.cgs), Floor: float64(before.cgs)},
		{Metric: "soak.left.mounts", Value: float64(left.mnts), Floor: float64(before.mnts)},
	} {
		if err := b.report.add(line); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) deploySoak(ctx context.Context, t *target) (names []string, err error) {
	runtime := t.runtimeOf(hellos[0])
	if runtime == "" {
		return nil, errors.New("the soak needs a Python")
	}
	zipped, err := code.Zip(filepath.Join("bench", "testdata", "soak"))
	if err != nil {
		return nil, err
	}
	for i := range soakFunctions {
		name := fmt.Sprintf("soak-%d", i)
		_, err := t.Lambda.CreateFunction(ctx, &lambda.CreateFunctionInput{
			FunctionName: &name, Runtime: types.Runtime(runtime), Handler: aws.String("app.handler"), Role: aws.String(role),
			MemorySize: aws.Int32(least), Timeout: aws.Int32(1), Code: &types.FunctionCode{ZipFile: zipped},
		})
		if err == nil {
			err = waitReady(ctx, t.Client, name)
		}
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return append(names, t.languages...), nil
}

func soakCall(ctx context.Context, t *target, names []string) error {
	do := "work"
	switch n := rand.IntN(200); {
	case n < 4:
		do = "raise"
	case n < 8:
		do = "exit"
	case n < 10:
		do = "eat"
	case n < 11:
		do = "sleep"
	}
	name := names[rand.IntN(len(names))]
	_, err := t.Lambda.Invoke(ctx, &lambda.InvokeInput{FunctionName: &name, Payload: fmt.Appendf(nil, `{"do":%q}`, do)})
	return err
}

func (b *bench) changeSoak(ctx context.Context, t *target, names []string) error {
	b.generation++
	_, err := t.Lambda.UpdateFunctionConfiguration(ctx, &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &names[rand.IntN(len(names))], Environment: &types.Environment{Variables: map[string]string{"GENERATION": strconv.Itoa(b.generation)}},
	})
	return err
}

// endSoak deletes the functions and waits until nothing more than before is held, or for a while.
func (b *bench) endSoak(ctx context.Context, t *target, names []string, before held) (left held, err error) {
	for _, name := range names {
		if _, err := t.Lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name}); err != nil {
			return left, err
		}
	}
	for end := time.Now().Add(soakEnd); ; {
		if left, err = look(t.server.PID()); err != nil {
			return left, err
		}
		if left.processes <= before.processes && left.files <= before.files || time.Now().After(end) {
			return left, nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return left, err
		}
	}
}
