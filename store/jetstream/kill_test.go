package jetstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"berth/lambda"
	"berth/store"
)

// The kill test runs this test binary again as a writer, which says on its standard output what was acknowledged.
const (
	writerDirectory = "BERTH_TEST_WRITER_DIRECTORY"
	writerRound     = "BERTH_TEST_WRITER_ROUND"

	kills        = 20
	longestRound = 1500 * time.Millisecond
	batchWriters = 3
	chainWriters = 2
	filler       = 100       // writes in the middle of a batch, so that kills meet half-stored ones
	perRound     = 1_000_000 // numbers of one round; more than a writer can use up
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDirectory); dir != "" {
		round, _ := strconv.Atoi(os.Getenv(writerRound))
		fmt.Fprintln(os.Stderr, "writer:", write(dir, round))
		os.Exit(1) // only a failure ends it: it is to be killed
	}
	os.Exit(m.Run())
}

// write writes without end: batches with the same value at both ends, chains in which each batch creates one entry and
// deletes the one before, and blobs. It returns on an error.
func write(dir string, round int) error {
	ctx := context.Background()
	e, err := Open(ctx, Config{Dir: dir})
	if err != nil {
		return err
	}
	failed := make(chan error)
	loop := func(acknowledge string, step func(i int) (string, error)) {
		for i := round * perRound; ; i++ {
			detail, err := step(i)
			if err != nil {
				failed <- err
				return
			}
			fmt.Println(acknowledge, i, detail) // one write to the pipe
		}
	}
	c := e.Catalog()
	for g := range batchWriters {
		go loop(fmt.Sprint("batch ", g), func(i int) (string, error) {
			v := []byte(strconv.Itoa(i))
			ops := []store.Op{store.Put(batchKey(g, "a"), v), store.Create(batchKey(g, i), v)}
			for j := range filler {
				ops = append(ops, store.Put(batchKey(g, fmt.Sprint("filler-", j)), make([]byte, 3000)))
			}
			_, err := c.Apply(ctx, append(ops, store.Put(batchKey(g, "b"), v))...)
			return "", err
		})
	}
	for g := range chainWriters {
		go loop(fmt.Sprint("chain ", g), func(i int) (string, error) {
			_, err := c.Apply(ctx, store.Create(chainKey(g, i), []byte("x")), store.Delete(chainKey(g, i-1), store.Any))
			return "", err
		})
	}
	go loop("single 0", func(i int) (string, error) {
		_, err := c.Apply(ctx, store.Put("single", []byte(strconv.Itoa(i))))
		return "", err
	})
	go loop("blob 0", func(i int) (string, error) {
		d, _, err := e.Blobs().Put(ctx, io.LimitReader(rand.NewChaCha8([32]byte{byte(round), byte(i), byte(i >> 8)}), int64(i%5*200_000)))
		return string(d), err
	})
	return <-failed
}

func batchKey(g int, name any) store.Key { return store.Key(fmt.Sprintf("batch/%d/%v", g, name)) }
func chainKey(g, i int) store.Key        { return store.Key(fmt.Sprintf("chain/%d/%d", g, i)) }

// acknowledged is what writers said, over all rounds.
type acknowledged struct {
	batches [batchWriters][]int
	chains  [chainWriters]int // the last
	single  int
	blobs   map[lambda.CodeDigest]bool
	count   int
}

func (a *acknowledged) note(line string) error {
	f := strings.Fields(line)
	if len(f) < 3 {
		return fmt.Errorf("the writer says %q", line)
	}
	g, err1 := strconv.Atoi(f[1])
	i, err2 := strconv.Atoi(f[2])
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("the writer says %q: %w", line, err)
	}
	a.count++
	switch f[0] {
	case "batch":
		a.batches[g] = append(a.batches[g], i)
	case "chain":
		a.chains[g] = i
	case "single":
		a.single = i
	case "blob":
		a.blobs[lambda.CodeDigest(f[3])] = true
	}
	return nil
}

// TestKill kills a writer again and again, at any moment of its start and work: what was acknowledged must be there when
// the directory is opened again, and every batch must be there whole or not at all.
func TestKill(t *testing.T) {
	dir, said := t.TempDir(), &acknowledged{blobs: map[lambda.CodeDigest]bool{}}
	start := time.Now()
	for round := 1; round <= kills && !t.Failed(); round++ {
		runWriter(t, dir, round, said)
		e := open(t, Config{Dir: dir})
		checkCatalog(t, e, said)
		checkBlobs(t, e, said)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills in %v, %d writes acknowledged", kills, time.Since(start).Round(time.Millisecond), said.count)
	if said.count < 10*kills {
		t.Errorf("only %d writes were acknowledged: the test shows nothing", said.count)
	}
}

// runWriter kills the writer some time after its start, or soon after one of its first 200 acknowledgements.
func runWriter(t *testing.T, dir string, round int, said *acknowledged) {
	t.Helper()
	w := exec.Command(os.Args[0], "-test.run=^$")
	w.Env = append(os.Environ(), writerDirectory+"="+dir, writerRound+"="+strconv.Itoa(round))
	var stderr bytes.Buffer
	w.Stderr = &stderr
	out, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	killIn := func(d time.Duration) *time.Timer { return time.AfterFunc(d, func() { _ = w.Process.Kill() }) }
	latest := longestRound
	if round%4 == 0 {
		latest = rand.N(500 * time.Millisecond) // perhaps while it recovers
	}
	defer killIn(latest).Stop()
	lines := bufio.NewReader(out)
	for killAt, n := rand.IntN(200), 0; ; n++ {
		line, err := lines.ReadString('\n')
		if err != nil { // what has no line end was not acknowledged
			break
		}
		if n == killAt {
			defer killIn(rand.N(10 * time.Millisecond)).Stop()
		}
		if err := said.note(line); err != nil {
			t.Error(err)
		}
	}
	_ = w.Wait()
	if strings.Contains(stderr.String(), "writer:") {
		t.Fatalf("the writer failed: %s", &stderr)
	}
}

func checkCatalog(t *testing.T, e *Engine, said *acknowledged) {
	t.Helper()
	all := everything(t, e)
	number := func(k store.Key) int {
		n, err := strconv.Atoi(string(all[k].Value))
		if err != nil && all[k].Value != nil {
			t.Errorf("%q is %q", k, all[k].Value)
		}
		return n
	}
	for g, list := range said.batches {
		a, b := number(batchKey(g, "a")), number(batchKey(g, "b"))
		if a != b || a != 0 && number(batchKey(g, a)) != a || all[batchKey(g, a+1)].Value != nil {
			t.Errorf("a batch is torn: a is %d, b is %d, the entry is %q, the next one is %q",
				a, b, all[batchKey(g, a)].Value, all[batchKey(g, a+1)].Value)
		}
		for _, i := range list {
			if i > a || number(batchKey(g, i)) != i {
				t.Errorf("batch %d of writer %d was acknowledged and is lost, a is %d", i, g, a)
			}
		}
	}
	for g, last := range said.chains {
		if last != 0 && (all[chainKey(g, last)].Value == nil) == (all[chainKey(g, last+1)].Value == nil) {
			t.Errorf("chain %d was acknowledged up to %d: of it and the next one exactly one must be there", g, last)
		}
		if all[chainKey(g, last-1)].Value != nil {
			t.Errorf("chain %d: the deletion of %d was acknowledged and is lost", g, last-1)
		}
	}
	if got := number("single"); got < said.single {
		t.Errorf("the single entry is %d after %d was acknowledged", got, said.single)
	}
}

func everything(t *testing.T, e *Engine) map[store.Key]store.Entry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all := map[store.Key]store.Entry{}
	err := e.Catalog().Watch(ctx, "", func(e store.Entry) { all[e.Key] = e }, func(store.Revision) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("reading everything: %v", err)
	}
	return all
}

// checkBlobs reads every acknowledged blob, and deletes it so that the test needs little room.
func checkBlobs(t *testing.T, e *Engine, said *acknowledged) {
	t.Helper()
	var wg sync.WaitGroup
	for d := range said.blobs {
		wg.Go(func() {
			r, err := e.Blobs().Open(t.Context(), d)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if err != nil {
				t.Errorf("an acknowledged blob: %v", err)
			}
			if err := e.Blobs().Delete(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	clear(said.blobs)
}
