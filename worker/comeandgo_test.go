package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth/code"
	"berth/image"
	"berth/lambda"
	"berth/runtimes"
	"berth/store/memory"
	"berth/worker"
)

// TestVersionsComeAndGo: while versions of a runtime come and go, their unpacked images and the code are removed as soon as nothing
// uses them, and sandboxes that are parked for one version make room for another's, each environment starts all the same, in the
// version that was asked for.
func TestVersionsComeAndGo(t *testing.T) {
	const callers, versions = 6, 4
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("BERTH_ROUNDS")); err == nil { // to look for what is rare
		rounds = n
	}
	blobs, kept := memory.NewBlobs(), zips{}
	r := newReal(t, withImages(blobs), func(c *worker.Config) {
		cache, err := code.NewCache(code.CacheConfig{Dir: filepath.Join(t.TempDir(), "small"), Blobs: kept, MaxBytes: 1})
		must(t, err)
		c.Code, c.ParkedBytes, c.ParkMakers = cache, 24<<20, 2 // room for a few
	})
	r.zips = kept
	boot, err := program()
	must(t, err)
	looks := r.version("provided.al2023", "h", map[string]string{"bootstrap": string(boot)})
	counts := r.version(r.runtime("python"), "h.handler", map[string]string{"h.py": pythonSource})
	release, err := runtimes.NewRelease("provided.al2023", func(string) bool { return false })
	must(t, err)
	label, err := release.Label()
	must(t, err)
	ids := []lambda.RuntimeVersionID{lambda.HostRuntime}
	for i := range versions {
		img, err := image.Add(imageOf(t, map[string][]byte{"etc/version": fmt.Append(nil, i+1)}, v1.Config{}), release.Files, runtimes.ReleaseLabel, label)
		must(t, err)
		ids = append(ids, lambda.RuntimeVersionID(keepImage(t, blobs, img)))
	}
	var calling sync.WaitGroup
	var failed, slowest atomic.Int64
	one := func(v *lambda.Version, version lambda.RuntimeVersionID, payload, want string) error {
		id := lambda.EnvironmentID(fmt.Sprintf("e-go-%d", r.next.Add(1)))
		err := r.Start(context.Background(), lambda.StartRequest{Environment: id, Owner: "m", Version: v, Key: lambda.EnvironmentKey{Runtime: version}})
		if err != nil {
			return err
		}
		defer r.End(context.Background(), id)
		if rand.IntN(8) == 0 { // given up while it starts
			return nil
		}
		began := time.Now()
		defer func() {
			for took := int64(time.Since(began)); ; {
				if most := slowest.Load(); took <= most || slowest.CompareAndSwap(most, took) {
					return
				}
			}
		}()
		out, err := r.Invoke(context.Background(), lambda.Reservation{Environment: id}, &lambda.Invocation{RequestID: string(id), Payload: []byte(payload)})
		switch {
		case err != nil:
			return err
		case out.Class != lambda.OK:
			return fmt.Errorf("%s: %s", out.Class, out.Payload)
		}
		if !bytes.Contains(out.Payload, []byte(want)) {
			return errors.New("in another version: " + string(out.Payload))
		}
		return nil
	}
	for range callers {
		calling.Go(func() {
			for range rounds {
				n := rand.IntN(len(ids))
				want := ""
				if n > 0 {
					want = fmt.Sprintf(`"file":"%d"`, n)
				}
				if err := one(looks, ids[n], `"/etc/version"`, want); err != nil && failed.Add(1) < 5 {
					t.Errorf("version %d: %v", n, err)
				}
				if err := one(counts, lambda.HostRuntime, `1`, `"count"`); err != nil && failed.Add(1) < 5 {
					t.Errorf("python: %v", err)
				}
			}
		})
	}
	began := time.Now()
	calling.Wait()
	t.Logf("%d environments in %v, the slowest %v, %d failed; %d began in parked sandboxes", 2*callers*rounds, time.Since(began).Round(time.Millisecond),
		time.Duration(slowest.Load()).Round(time.Millisecond), failed.Load(), r.Stats().ParkedStarts)
}
