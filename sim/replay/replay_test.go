package replay

import (
	"fmt"
	"os"
	"testing"
	"time"

	"berth/manager"
)

func TestExplore(t *testing.T) {
	dir := os.Getenv("BERTH_TRACES")
	if dir == "" {
		t.Skip("BERTH_TRACES names no folder with the traces")
	}
	fs, err := Load(dir, "azure2019_1250")
	if err != nil {
		t.Fatal(err)
	}
	show := func(r *Result) {
		fmt.Printf("%-12s calls %d cold %d (%.3f %%) ahead %d busy %.0f idle %.0f GBh  p50 p75 p90 function %.3f %.3f %.3f\n", r.Name, r.Calls, r.Cold, 100*r.ColdShare(), r.Ahead, r.BusyGBh, r.IdleGBh, r.Shares[len(r.Shares)/2], r.Shares[len(r.Shares)*3/4], r.Shares[len(r.Shares)*9/10])
	}
	for _, m := range []int{10} {
		b := time.Now()
		show(Run(fmt.Sprintf("fixed %d", m), fs, manager.Fixed(time.Duration(m)*time.Minute), 1))
		fmt.Println(time.Since(b))
	}
	for _, w := range []float64{8, 12, 16} {
		show(Run(fmt.Sprintf("worth %.0f", w), fs, manager.NewHistogram(w), 1))
	}
}
