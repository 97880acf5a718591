//go:build linux

package namespace

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"berth/sandbox"
)

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	lineV2 = "30 20 0:26 / %s rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	lineV1 = "31 20 0:27 / /sys/fs/cgroup/%[1]s rw - cgroup cgroup rw,%[1]s\n"
)

func TestLayouts(t *testing.T) {
	v1 := fmt.Sprintf(lineV1, "memory") + fmt.Sprintf(lineV1, "pids") + fmt.Sprintf(lineV1, "freezer") +
		fmt.Sprintf(lineV1, "cpu,cpuacct") + "22 1 8:1 / / rw - ext4 /dev/sda rw\nbroken\n"
	for name, c := range map[string]struct {
		mounts, v2, controllers string
		want                    string
	}{
		"v2":     {fmt.Sprintf(lineV2, "/sys/fs/cgroup"), "sys/fs/cgroup", "cpuset cpu io memory pids\n", "v2=/sys/fs/cgroup unified roots=[/sys/fs/cgroup]"},
		"hybrid": {v1 + fmt.Sprintf(lineV2, "/sys/fs/cgroup/unified"), "sys/fs/cgroup/unified", "\n", "v2=/sys/fs/cgroup/unified roots=[/sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/memory /sys/fs/cgroup/pids /sys/fs/cgroup/unified]"},
		"v1":     {v1, "", "", "v2= roots=[/sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/freezer /sys/fs/cgroup/memory /sys/fs/cgroup/pids]"},
		"none":   {"22 1 8:1 / / rw - ext4 /dev/sda rw\n", "", "", "v2= roots=[]"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if c.v2 != "" {
				write(t, filepath.Join(root, c.v2, "cgroup.controllers"), c.controllers)
			}
			l, err := detectLayout(strings.NewReader(c.mounts), root)
			if err != nil {
				t.Fatal(err)
			}
			got := "v2=" + l.v2
			if l.unified {
				got += " unified"
			}
			if got = strings.ReplaceAll(got+fmt.Sprint(" roots=", l.roots()), root, ""); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestUnified drives the pure v2 code over a directory that looks like it; the kernel's part is played by files made ahead.
func TestUnified(t *testing.T) {
	root := t.TempDir()
	l := layout{v2: root, unified: true}
	write(t, root+"/cgroup.subtree_control", "")
	write(t, root+"/berth-x/cgroup.subtree_control", "")
	c, err := newCgroups(l, "berth-x", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", "/berth-x"} {
		if got := read(t, root+dir+"/cgroup.subtree_control"); got != "+memory +cpu +pids" {
			t.Errorf("%s: delegated %q", dir, got)
		}
	}
	dir := root + "/berth-x/one"
	for _, name := range []string{"memory.max", "pids.max", "cpu.max", "cpu.max.burst"} { // no memory.swap.max: a kernel without swap
		write(t, filepath.Join(dir, name), "")
	}
	g := &group{c: c, name: "one", max: 1 << 30, v2: -1}
	if err := g.limit(sandbox.Limits{MemoryBytes: 128 << 20, CPUs: 0.5, PIDs: 10}, 1<<20); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"memory.max": "135266304", "pids.max": "11", "cpu.max": "10000 20000", "cpu.max.burst": "10000"} {
		if got := read(t, filepath.Join(dir, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"cpu.max", "cpu.max.burst"} { // plain files keep the tail of a longer text
		write(t, filepath.Join(dir, name), "")
	}
	write(t, filepath.Join(dir, "cpu.max.burst"), "10000")
	if err := g.setCPUs(0.0724); err != nil {
		t.Fatal(err)
	}
	if quota, burst := read(t, filepath.Join(dir, "cpu.max")), read(t, filepath.Join(dir, "cpu.max.burst")); quota != "1448 20000" || burst[:4] != "1448" {
		t.Errorf("after setCPUs: quota %q, burst %q", quota, burst)
	}
	for name, text := range map[string]string{
		"memory.current": "5000\n", "memory.peak": "9000\n", "memory.stat": "anon 1\nactive_file 500\ninactive_file 1000\n", "pids.current": "4\n",
		"cpu.stat": "usage_usec 77\nuser_usec 1\n", "memory.events": "low 0\noom 5\noom_kill 2\n",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	want := sandbox.Usage{MemoryBytes: 3500, MaxMemoryBytes: 7500, CPUNanoseconds: 77000, PIDs: 3, OOMKills: 2}
	if got := g.usage(); got != want {
		t.Errorf("usage %+v, want %+v", got, want)
	}
}

func TestBandwidth(t *testing.T) {
	for cores, want := range map[float64]string{2: "20000 40000", 0.0723: "20000 1446", 0.01: "100000 1000", 0.0001: "1000000 1000"} {
		if period, quota := cpuBandwidth(cores); period+" "+quota != want {
			t.Errorf("%v cores: %s %s, want %s", cores, period, quota, want)
		}
	}
}

// TestWireConstants: both sides of the control socket were written by hand.
func TestWireConstants(t *testing.T) {
	header := read(t, "init/wire.h")
	for name, want := range map[string]uint32{
		"MSG_SPAWN": msgSpawn, "MSG_SPAWNED": msgSpawned, "MSG_SETUP": msgSetup, "MSG_GO": msgGo, "MSG_MAPPED": msgMapped, "MSG_EXEC": msgExec,
		"MSG_SIGNAL": msgSignal, "MSG_SIGNAL_ALL": msgSignalAll, "MSG_KILL": msgKill, "MSG_LISTEN": msgListen, "MSG_SOCKET": msgSocket, "MSG_PREPARE": msgPrepare, "MSG_UNSHARED": msgUnshared,
		"MSG_READY": msgReady, "MSG_FAILED": msgFailed, "MSG_EXIT": msgExit, "MSG_STARTED": msgStarted, "MSG_DONE": msgDone,
		"MSG_LISTENING": msgListening, "SPAWN_ROOTLESS": spawnRootless, "SPAWN_CGROUP": spawnCgroup, "SETUP_ROOTLESS": setupRootless,
		"OP_HOSTNAME": opHostname, "OP_ROOT": opRoot, "OP_DIR": opDir, "OP_FILE": opFile, "OP_LINK": opLink, "OP_BIND": opBind, "OP_DEVICE": opDevice,
		"OP_TMPFS": opTmpfs, "OP_SCRATCH": opScratch, "OP_PROC": opProc, "OP_MASK_FILE": opMaskFile, "OP_MASK_DIR": opMaskDir,
	} {
		if got, ok := enumerator(header, name); !ok || got != want {
			t.Errorf("%s is %d in wire.h, %d in Go", name, got, want)
		}
	}
	for name, want := range map[string]string{"MAX_PACKET": "(160 * 1024)", "MAX_FDS": fmt.Sprint(maxFDs), "MAX_CHILDREN": fmt.Sprint(maxChildren), "MAX_STRINGS": "8192"} {
		if !regexp.MustCompile("(?m)^#define " + name + " " + regexp.QuoteMeta(want) + "\\b|\\)$").MatchString(header) {
			t.Errorf("%s is not %s", name, want)
		}
	}
	if sandbox.MaxStrings > 8192 || sandbox.MaxCommandBytes+headLen+4096 > maxPacket || sandbox.MaxExtra+3 > maxFDs {
		t.Error("the port allows commands that the control socket does not")
	}
}

// enumerator counts through the enums of a C header.
func enumerator(header, name string) (uint32, bool) {
	comment := regexp.MustCompile(`(?s)/\*.*?\*/`)
	for _, enum := range regexp.MustCompile(`(?s)enum \{(.*?)\}`).FindAllStringSubmatch(comment.ReplaceAllString(header, ""), -1) {
		value := uint32(0)
		for _, item := range strings.Split(enum[1], ",") {
			key, text, set := strings.Cut(strings.TrimSpace(item), "=")
			if set {
				fmt.Sscan(text, &value)
			}
			if strings.TrimSpace(key) == name {
				return value, true
			}
			value++
		}
	}
	return 0, false
}
