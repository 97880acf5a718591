package replay

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"berth/manager"
)

// every makes a function of calls calls at once, every so many minutes.
func every(minutes, calls int, runs time.Duration, memoryMB float64) Function {
	f := Function{MemoryMB: memoryMB}
	for m := 7; m < MinutesPerDay; m += minutes {
		f.Calls[m] = uint32(calls)
	}
	for i := range f.RunTimes {
		f.RunTimes[i] = float64(runs / time.Millisecond)
	}
	return f
}

func TestFixedKeepsForItsTime(t *testing.T) {
	r := Run("fixed", []Function{every(60, 1, time.Minute, 1024)}, manager.Fixed(10*time.Minute), 1)
	if r.Calls != 24 || r.Cold != 24 || r.Ahead != 0 {
		t.Errorf("%d calls, %d cold, %d ahead; want 24, 24, 0", r.Calls, r.Cold, r.Ahead)
	}
	if r.IdleGBh < 3.8 || r.IdleGBh > 4.2 { // 24 × 10 min × 1 GB
		t.Errorf("%.2f GB·h idle, want 4", r.IdleGBh)
	}
	r = Run("fixed", []Function{every(5, 1, time.Minute, 1024)}, manager.Fixed(10*time.Minute), 1)
	if r.Cold != 1 {
		t.Errorf("%d cold starts of a function called every five minutes, want 1", r.Cold)
	}
}

func TestTheHistogramLearnsATimer(t *testing.T) {
	r := Run("histogram", []Function{every(60, 20, time.Minute, 2048)}, manager.NewHistogram(manager.DefaultWorth), 1)
	fixed := Run("fixed", []Function{every(60, 20, time.Minute, 2048)}, manager.Fixed(10*time.Minute), 1)
	if r.Cold*3 > fixed.Cold || r.IdleGBh > fixed.IdleGBh {
		t.Errorf("%d cold starts with %.1f GB·h, fixed has %d with %.1f; want a third with less", r.Cold, r.IdleGBh, fixed.Cold, fixed.IdleGBh)
	}
}

func TestRunsAreRepeatable(t *testing.T) {
	functions := []Function{every(3, 5, 90*time.Second, 512), every(17, 2, time.Second, 128)}
	a := Run("a", functions, manager.NewHistogram(manager.DefaultWorth), 1)
	b := Run("a", functions, manager.NewHistogram(manager.DefaultWorth), 1)
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("%+v and then %+v", a, b)
	}
}

// The test of the recorded day takes every fourth function, of those that have at most seldom calls a day: five of six have no
// more, with a thirtieth of all calls, so that the race detector is through in seconds. All are in `go run ./sim -trace`. Those
// that are left out make the comparison look better: what is always called starts cold least.
const (
	seldom    = 5000
	oneOfSome = 4
)

// TestTheRecordedDay is the comparison that the default policy rests on.
func TestTheRecordedDay(t *testing.T) {
	dir := os.Getenv("BERTH_TRACES")
	if dir == "" {
		t.Skip("set BERTH_TRACES to the folder with the Azure Functions 2019 samples (azure2019_1250_*.csv.gz)")
	}
	t.Parallel()
	all, err := Load(dir, "azure2019_1250")
	if err != nil {
		t.Fatal(err)
	}
	var functions []Function
	for i := 0; i < len(all); i += oneOfSome {
		if all[i].total() <= seldom {
			functions = append(functions, all[i])
		}
	}
	if len(functions) < len(all)/oneOfSome*4/5 {
		t.Fatalf("only %d of %d functions are left", len(functions), len(all)/oneOfSome)
	}
	fixed := Run("fixed", functions, manager.Fixed(10*time.Minute), 1)
	ours := Run("histogram", functions, manager.NewHistogram(manager.DefaultWorth), 1)
	t.Logf("%d functions, %d calls; fixed: %d cold, %.0f GB·h idle; histogram: %d cold, %.0f GB·h idle",
		len(functions), fixed.Calls, fixed.Cold, fixed.IdleGBh, ours.Cold, ours.IdleGBh)
	if ours.Cold*2 > fixed.Cold || ours.IdleGBh > fixed.IdleGBh {
		t.Errorf("want at most half the cold starts, with no more memory")
	}
}

// total is a function's number of calls.
func (f *Function) total() (n int) {
	for _, calls := range f.Calls {
		n += int(calls)
	}
	return n
}

func writeGzip(t *testing.T, path, text string) {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	id := strings.Repeat("a", 64)
	writeGzip(t, filepath.Join(dir, "x_inv.csv.gz"), "head"+strings.Repeat(",h", 2+MinutesPerDay)+"\n"+id+","+id+","+id+strings.Repeat(",3", MinutesPerDay)+"\n")
	writeGzip(t, filepath.Join(dir, "x_run.csv.gz"), strings.Repeat("h,", 13)+"h\n"+id+","+id+","+id+",9,50,1,100,1,2,3,4,5,6,100\n")
	writeGzip(t, filepath.Join(dir, "x_mem.csv.gz"), strings.Repeat("h,", 4)+"h\n"+id+","+id+",77,170,160\n")
	functions, err := Load(dir, "x")
	if err != nil || len(functions) != 1 {
		t.Fatal(functions, err)
	}
	if f := functions[0]; f.Calls[1439] != 3 || f.MemoryMB != 170 || f.RunTimes != [7]float64{1, 2, 3, 4, 5, 6, 100} {
		t.Errorf("loaded %v %v %v", f.Calls[1439], f.MemoryMB, f.RunTimes)
	}
	writeGzip(t, filepath.Join(dir, "x_mem.csv.gz"), "h,h,h,h,h\n"+id+","+id+",77,much,160\n")
	if _, err := Load(dir, "x"); err == nil || !strings.Contains(err.Error(), "x_mem.csv.gz") {
		t.Errorf("a damaged file: %v", err)
	}
	if _, err := Load(dir, "y"); err == nil {
		t.Error("a missing file was loaded")
	}
}

func TestPlotIsAnImage(t *testing.T) {
	r := Run("fixed <10>", []Function{every(60, 1, time.Minute, 1024)}, manager.Fixed(10*time.Minute), 1)
	d := xml.NewDecoder(bytes.NewReader(Plot([]Line{{"a & b", []*Result{r, r}}})))
	elements := map[string]int{}
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
		}
	}
	if elements["svg"] != 1 || elements["circle"] != 2 {
		t.Errorf("elements %v, want an svg with two points", elements)
	}
}
