package procfs

import (
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	line := "42 (a) (b c) S 7 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 98765 1000 200 18446744073709551615\n"
	got, err := parseStat(line)
	want := Stat{PID: 42, Parent: 7, Command: "a) (b c", State: 'S', StartTicks: 98765}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "42", "42 (a) S 7", "x (a) S 7 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 98765 1000"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestLiveProcesses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's /proc")
	}
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Skip(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	below, err := Descendants(os.Getpid())
	if err != nil || !slices.Contains(below, child.Process.Pid) {
		t.Errorf("descendants %v, %v; want %d among them", below, err, child.Process.Pid)
	}
	if pss, err := PSS(os.Getpid()); err != nil || pss < 1<<20 {
		t.Errorf("this test takes %d bytes, %v; want more than a megabyte", pss, err)
	}
	if total, err := MemoryTotal(); err != nil || total < 64<<20 {
		t.Errorf("the machine has %d bytes, %v", total, err)
	}
	if stat, err := ReadStat(os.Getpid()); err != nil || stat.PID != os.Getpid() || stat.Parent != os.Getppid() {
		t.Errorf("own stat %+v, %v", stat, err)
	}
}

func TestCPUTime(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		after, err := CPUTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no time passes")
		}
	}
}
