package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"berth/admin"
	"berth/client"
	"berth/internal/serverproc"
)

// cutOffWithin is what a call may take while its manager is cut off, on a busy machine: 3 s are meant.
const cutOffWithin = 5 * time.Second

// network is a bridge of this machine and network namespaces on it, each of which can be cut off.
type network struct {
	t      *testing.T
	name   string // short: interfaces' names are
	prefix string // of the addresses
}

// newNetwork makes the bridge, or skips the test where that cannot be.
func newNetwork(t *testing.T) *network {
	t.Helper()
	needServer(t)
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no network namespaces: the command ip is not installed")
	}
	pid := os.Getpid()
	n := &network{t: t, name: fmt.Sprintf("bt%d", pid%100_000), prefix: fmt.Sprintf("10.%d.%d.", 200+pid%50, pid/50%250)}
	if out, err := exec.Command("ip", "link", "add", n.name, "type", "bridge").CombinedOutput(); err != nil {
		t.Skipf("no network namespaces: a bridge cannot be made: %s", out)
	}
	t.Cleanup(func() { n.ip("link", "del", n.name) })
	n.ip("addr", "add", n.address(1)+"/24", "dev", n.name)
	n.ip("link", "set", n.name, "up")
	return n
}

func (n *network) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Errorf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

func (n *network) address(host int) string { return fmt.Sprint(n.prefix, host) }

// wire is the end of a namespace's cable at the bridge.
func (n *network) wire(host int) string { return fmt.Sprintf("%sv%d", n.name, host) }

// add makes a namespace on the bridge and returns a program that runs berth in it.
func (n *network) add(host int) (program string) {
	n.t.Helper()
	ns := n.wire(host)
	if out, err := exec.Command("ip", "netns", "add", ns).CombinedOutput(); err != nil {
		n.t.Skipf("no network namespaces: %s", out)
	}
	n.t.Cleanup(func() { n.ip("netns", "del", ns) })
	n.ip("link", "add", n.wire(host), "type", "veth", "peer", "name", "eth0", "netns", ns)
	n.ip("link", "set", n.wire(host), "master", n.name, "up")
	n.ip("-n", ns, "addr", "add", n.address(host)+"/24", "dev", "eth0")
	n.ip("-n", ns, "link", "set", "eth0", "up")
	n.ip("-n", ns, "link", "set", "lo", "up")
	program = filepath.Join(n.t.TempDir(), "berth")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\nexec ip netns exec %s %s \"$@\"\n", ns, binary), 0o755); err != nil {
		n.t.Fatal(err)
	}
	return program
}

// cut and join take a namespace off the bridge and put it back.
func (n *network) cut(host int)  { n.t.Helper(); n.ip("link", "set", n.wire(host), "down") }
func (n *network) join(host int) { n.t.Helper(); n.ip("link", "set", n.wire(host), "up") }

// startOn starts a process that others reach at an address.
func (p *processes) startOn(program, address, role, id string) *serverproc.Server {
	p.t.Helper()
	before, args := p.program, p.args
	defer func() { p.program, p.args = before, args }()
	p.program, p.args = program, slices.Concat(args, []string{"--listen-internal", address + ":0"})
	s := p.start(role, id)
	if s == nil {
		p.t.FailNow()
	}
	return s
}

// TestAManagerThatIsCutOffIsReplacedAndComesBack: the manager of a function's environments is cut off from all others. Another
// takes its place and adopts them; when it is back it gives nothing away that is another's: no environment runs two calls at
// once, and no more run than may (I1–I3).
func TestAManagerThatIsCutOffIsReplacedAndComesBack(t *testing.T) {
	const limit, host = 4, 2
	n := newNetwork(t)
	apart := n.add(host)
	sharedClient(t)
	p := &processes{t: t, dir: t.TempDir(), engineRoles: "engine,control", managers: map[string]*serverproc.Server{}}
	p.token = filepath.Join(p.dir, "cluster-token")
	p.startEngine("nats://" + n.address(1) + ":0")
	p.args = []string{"--pool-quota", fmt.Sprint(limit)}
	p.startOn(binary, n.address(1), "worker", "w1")
	p.startOn(apart, n.address(host), "manager", "m1")
	p.startOn(binary, n.address(1), "manager", "m2")
	c := client.New(p.start("frontend", "f1").Client)
	t.Cleanup(c.Close)
	waitRing(t, c, "m1", "m2")
	if _, err := c.DeployRing(t.Context(), admin.Deploy{Managers: []string{"m1"}}); err != nil {
		t.Fatal(err)
	}
	to := &balancer{frontends: []*client.Client{c}}
	deployMarked(t, c, "split")
	reserve(t, c, "split", limit)
	each := map[string]int{"split": limit}
	before, _ := idleSet(t, to, each)
	waitIdle(t, to)
	n.cut(host)
	_, took := waitRing(t, c, "m2")
	after, started := idleSet(t, to, each)
	survived, of := kept(before, after)
	t.Logf("a ring without the manager that was cut off after %v; %d of %d environments were adopted", took.Round(time.Millisecond), survived, of)
	if survived < of || started > 0 {
		t.Errorf("%d of %d environments were adopted, %d calls started cold", survived, of, started)
	}
	n.join(host)
	waitRing(t, c, "m1")

	f := startTraffic(t, to, 50*time.Millisecond, 100*time.Millisecond, "split")
	time.Sleep(500 * time.Millisecond)

	n.cut(host)
	_, took = waitRing(t, c, "m2")
	t.Logf("under load a ring without it after %v", took.Round(time.Millisecond))
	time.Sleep(time.Second)
	n.join(host)
	back := time.Now()
	_, took = waitRing(t, c, "m1")
	t.Logf("a ring with it again after %v", took.Round(time.Millisecond))
	time.Sleep(time.Second)

	answers := f.stop().seen()
	good := slices.DeleteFunc(slices.Clone(answers), func(a answer) bool { return throttledCall(a.err) })
	later := slices.DeleteFunc(slices.Clone(answers), func(a answer) bool { return a.began.Before(back) })
	t.Logf("%s; %d throttled; at most %d at once of %d allowed", summary(good), len(answers)-len(good), most(intervals(answers, "split")), limit)
	reportFailures(t, good)
	checkAlone(t, answers)
	longest := time.Duration(0)
	for _, a := range answers {
		longest = max(longest, a.took())
	}
	t.Logf("the longest call took %v", longest.Round(time.Millisecond))
	if longest > cutOffWithin {
		t.Errorf("a call took %v while its manager was cut off, want at most %v", longest, cutOffWithin)
	}
	if top := most(intervals(answers, "split")); top > 2*limit {
		t.Errorf("%d calls ran at once, the limit is %d, and the lost manager's quota as much", top, limit)
	}
	if top := most(intervals(later, "split")); top > limit {
		t.Errorf("%d calls ran at once after the manager was back, the limit is %d", top, limit)
	}
	waitOwned(t, c)
}
