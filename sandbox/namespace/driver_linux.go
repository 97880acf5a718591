package namespace

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"berth/sandbox"
)

const (
	// createLimit bounds a Create whose context has no earlier deadline; it takes about two milliseconds.
	createLimit = 10 * time.Second

	// buildsEach is how many sandboxes are built at the same time for each processor; the next ones wait for their turn, which
	// does not count against createLimit. A hundred at once would keep each other from getting done in time.
	buildsEach = 4

	// Host user ids of sandboxes: 2^28 ids from here, above what useradd, subuid and systemd hand out. Each state directory
	// has one of 1,024 regions, each sandbox two ids in it: its init's and its function's.
	firstID    = 0x70000000
	regions    = 1024
	slotsEach  = 1 << 17
	idsPerSlot = 2
)

// Driver makes sandboxes; see the package's comment.
type Driver struct {
	log      *slog.Logger
	stateDir string
	name     string // of the cgroup parents
	region   uint32
	rootless bool
	filter   []byte
	host     *hostFacts
	spawner  *spawner
	scratch  *scratchPool  // nil without root
	mounter  *mounter      // nil without root
	networks *networks     // nil without root
	lock     *os.File      // held while this daemon uses the state directory
	building chan struct{} // one place for each sandbox that is being built

	setup func() (*cgroups, error) // once

	mu     sync.Mutex
	slots  map[uint32]bool
	next   uint32
	boxes  map[string]*box
	closed bool
}

// New prepares a driver: it takes the state directory for itself, and starts nothing. Errors: sandbox.ErrUnsupported when
// this binary or machine cannot make sandboxes.
func New(config Config) (*Driver, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.ScratchReady == 0 {
		config.ScratchReady = 4
	}
	if !filepath.IsAbs(config.StateDir) {
		return nil, fmt.Errorf("sandbox state directory %q: expected an absolute path", config.StateDir)
	}
	sum := sha256.Sum256([]byte(filepath.Clean(config.StateDir)))
	d := &Driver{
		log: config.Log, stateDir: config.StateDir,
		name:     "berth-" + hex.EncodeToString(sum[:6]),
		region:   (uint32(sum[6])<<8 | uint32(sum[7])) % regions,
		rootless: os.Geteuid() != 0,
		slots:    map[uint32]bool{}, boxes: map[string]*box{},
		building: make(chan struct{}, buildsEach*runtime.NumCPU()),
	}
	var err error
	if config.Init == nil {
		if config.Init, err = embeddedInit(); err != nil {
			return &Driver{setup: func() (*cgroups, error) { return nil, err }}, nil
		}
	}
	if d.filter, err = seccompFilter(); err != nil {
		return nil, err
	}
	if err := d.claim(); err != nil {
		return nil, err
	}
	if d.host, err = readHost(filepath.Join(d.stateDir, "root")); err != nil {
		d.lock.Close()
		return nil, fmt.Errorf("%w: /proc: %w", sandbox.ErrUnsupported, err)
	}
	d.spawner = &spawner{binary: config.Init}
	if !d.rootless {
		d.scratch = newScratchPool(d.stateDir, config.ScratchReady, d.log)
		d.mounter = newMounter()
		d.networks = newNetworks()
	}
	d.setup = sync.OnceValues(d.prepare)
	return d, nil
}

// claim makes the state directory and locks it: two daemons would sweep each other's sandboxes away.
func (d *Driver) claim() error {
	if err := os.MkdirAll(filepath.Join(d.stateDir, "root"), 0o700); err != nil {
		return fmt.Errorf("sandbox state directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(d.stateDir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("sandbox state directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return fmt.Errorf("sandbox state directory %s is in use by another daemon: %w", d.stateDir, err)
	}
	d.lock = lock
	return nil
}

// prepare finds the cgroups, before the first sandbox or sweep.
func (d *Driver) prepare() (*cgroups, error) {
	if d.rootless {
		d.log.Warn("sandboxes run without root: limits of memory, processor and processes are off, and /tmp is in memory; run as root for all of them")
		return nil, nil
	}
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("%w: no mount table: %w", sandbox.ErrUnsupported, err)
	}
	defer table.Close()
	l, err := detectLayout(table, "/")
	if err != nil {
		return nil, err
	}
	c, err := newCgroups(l, d.name, d.log)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", sandbox.ErrUnsupported, err)
	}
	c.mark(d.stateDir)
	return c, nil
}

// Create implements sandbox.Driver.
func (d *Driver) Create(ctx context.Context, spec sandbox.Spec) (sandbox.Sandbox, error) {
	groups, err := d.setup()
	if err != nil {
		return nil, err
	}
	if err := spec.Check(); err != nil {
		return nil, err
	}
	select {
	case d.building <- struct{}{}:
		defer func() { <-d.building }()
	case <-ctx.Done():
		return nil, fmt.Errorf("create sandbox %s: waiting for its turn: %w", spec.ID, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, createLimit)
	defer cancel()
	b, err := d.reserve(spec)
	if err != nil {
		return nil, err
	}
	if err := b.build(ctx, groups, spec); err != nil {
		// ctx may be what ended; taking apart has its own time.
		if derr := b.Destroy(context.Background()); derr != nil {
			d.log.Error("a failed sandbox could not be removed", "sandbox", spec.ID, "error", derr)
		}
		return nil, fmt.Errorf("create sandbox %s: %w", spec.ID, d.explain(err))
	}
	return b, nil
}

// explain marks the errors that mean this machine does not allow what sandboxes need.
func (d *Driver) explain(err error) error {
	for _, errno := range []error{unix.EPERM, unix.ENOSYS, unix.EACCES} {
		if !errors.Is(err, errno) {
			continue
		}
		need := "root's full capabilities and Linux 5.14 or later"
		if d.rootless {
			need = "root, or unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, " +
				"kernel.apparmor_restrict_unprivileged_userns) and Linux 5.14 or later"
		}
		return fmt.Errorf("%w: %w; what is needed: %s", sandbox.ErrUnsupported, err, need)
	}
	return err
}

// reserve books the sandbox's name and user ids. Slots go round, so that an id is not used again soon.
func (d *Driver) reserve(spec sandbox.Spec) (*box, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("sandbox driver: %w: closed", sandbox.ErrGone)
	}
	if d.boxes[spec.ID] != nil {
		return nil, fmt.Errorf("sandbox %s exists already", spec.ID)
	}
	if len(d.slots) == slotsEach {
		return nil, fmt.Errorf("all %d sandboxes of this daemon are in use", slotsEach)
	}
	for d.slots[d.next] {
		d.next = (d.next + 1) % slotsEach
	}
	b := newBox(d, spec, d.next)
	d.slots[d.next] = true
	d.boxes[spec.ID] = b
	d.next = (d.next + 1) % slotsEach
	return b, nil
}

// hostID is the first of a slot's two host user ids.
func (d *Driver) hostID(slot uint32) uint32 {
	return firstID + (d.region*slotsEach+slot)*idsPerSlot
}

func (d *Driver) forget(b *box) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.boxes, b.id)
	delete(d.slots, b.slot)
}

// Sweep implements sandbox.Driver. Processes and mounts of a killed daemon end by themselves; what stays are cgroups and
// half-made files.
func (d *Driver) Sweep(ctx context.Context) (int, error) {
	groups, err := d.setup()
	if errors.Is(err, sandbox.ErrUnsupported) || err == nil && groups == nil {
		return 0, nil // where no sandbox can be made none was left; Create is what says why
	}
	if err != nil {
		return 0, err
	}
	left, err := filepath.Glob(filepath.Join(d.stateDir, "image-*"))
	if err != nil {
		return 0, err
	}
	for _, name := range left {
		if rerr := os.Remove(name); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	groups.setLow(false) // so that those who yielded end soon
	_, kerr := groups.sweep(func(g *group) error {
		g.killMembers() // all, before any of them is waited for
		return nil
	})
	n, serr := groups.sweep(func(g *group) error { return g.remove(ctx) })
	if strays := groups.sweepStrays(); strays > 0 {
		d.log.Info("groups that other daemons left behind were removed", "groups", strays)
	}
	return n, errors.Join(err, kerr, serr, groups.setLow(true))
}

// Close implements sandbox.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	left, was := len(d.boxes), d.closed
	d.closed = true
	d.mu.Unlock()
	if was || d.spawner == nil {
		return nil
	}
	var err error
	if left > 0 {
		err = fmt.Errorf("sandbox driver closed with %d sandboxes not destroyed: their processes are killed, their cgroups stay for Sweep", left)
	}
	d.spawner.stop()
	if d.scratch != nil {
		d.mounter.close()
		d.scratch.close()
		d.networks.close()
	}
	if groups, gerr := d.setup(); gerr == nil && groups != nil {
		err = errors.Join(err, groups.close())
	}
	return errors.Join(err, d.lock.Close())
}
