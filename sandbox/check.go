package sandbox

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Bounds of what one sandbox or process may be asked for.
const (
	MaxMounts       = 64
	MaxStrings      = 8000      // arguments and variables of one command
	MaxCommandBytes = 128 << 10 // all of them together; Linux bounds one string at this as well
	MaxExtra        = 16        // extra descriptors

	maxPath = 1024
)

// Check refuses specs that no driver should see; every driver calls it.
func (spec Spec) Check() error {
	if n := len(spec.ID); n < 1 || n > 64 || strings.Trim(spec.ID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("sandbox id %q: expected 1 to 64 of a-z, 0-9, -", spec.ID)
	}
	if len(spec.Hostname) > 64 || strings.ContainsRune(spec.Hostname, 0) {
		return fmt.Errorf("sandbox %s: a host name has at most 64 characters", spec.ID)
	}
	if len(spec.Mounts) > MaxMounts {
		return fmt.Errorf("sandbox %s: %d mounts; at most %d are allowed", spec.ID, len(spec.Mounts), MaxMounts)
	}
	seen := map[string]bool{}
	for _, m := range spec.Mounts {
		if !clean(m.Source) || !clean(m.Target) || seen[m.Target] || reserved(m.Target) {
			return fmt.Errorf("sandbox %s: mount of %q at %q: expected clean absolute paths, and a target used once that is not the driver's own",
				spec.ID, m.Source, m.Target)
		}
		seen[m.Target] = true
	}
	if len(spec.Late) > MaxMounts {
		return fmt.Errorf("sandbox %s: %d directories for late mounts; at most %d are allowed", spec.ID, len(spec.Late), MaxMounts)
	}
	for _, target := range spec.Late {
		if !clean(target) || seen[target] || reserved(target) || slices.ContainsFunc(spec.Mounts, func(m Mount) bool {
			return strings.HasPrefix(target, m.Target+"/")
		}) {
			return fmt.Errorf("sandbox %s: late mounts at %q: expected a clean absolute path, named once, that is neither the driver's own nor in a mount",
				spec.ID, target)
		}
		seen[target] = true
	}
	return spec.Limits.check(spec.ID)
}

func (l Limits) check(id string) error {
	if l.MemoryBytes <= 0 || l.CPUs <= 0 || l.PIDs <= 0 || l.ScratchBytes <= 0 {
		return fmt.Errorf("sandbox %s: every limit must be positive: %+v", id, l)
	}
	return nil
}

// Check refuses what the sandbox was not made for.
func (a Attachment) Check(spec Spec) error {
	for i, m := range a.Mounts {
		if !clean(m.Source) || !slices.Contains(spec.Late, m.Target) ||
			slices.ContainsFunc(a.Mounts[:i], func(other Mount) bool { return other.Target == m.Target }) {
			return fmt.Errorf("sandbox %s: late mount of %q at %q: expected a clean absolute path, and a target of %q used once",
				spec.ID, m.Source, m.Target, spec.Late)
		}
	}
	return a.Limits.check(spec.ID)
}

func clean(name string) bool {
	return path.IsAbs(name) && path.Clean(name) == name && len(name) <= maxPath && !strings.ContainsRune(name, 0)
}

// reserved reports targets that belong to the driver: the root, and /proc, /dev, /tmp, /sys with all below.
func reserved(target string) bool {
	for _, own := range []string{"/proc", "/dev", "/tmp", "/sys"} {
		if target == own || strings.HasPrefix(target, own+"/") {
			return true
		}
	}
	return target == "/"
}

// Check refuses commands past the bounds that every driver can keep.
func (cmd Command) Check() error {
	size := len(cmd.Path) + len(cmd.Dir)
	for _, list := range [][]string{cmd.Args, cmd.Env} {
		for _, s := range list {
			if strings.ContainsRune(s, 0) {
				return fmt.Errorf("exec %s: a string holds a zero byte", cmd.Path)
			}
			size += len(s) + 1
		}
	}
	switch {
	case !path.IsAbs(cmd.Path) || len(cmd.Args) == 0 || cmd.Dir != "" && !path.IsAbs(cmd.Dir):
		return fmt.Errorf("exec %q in %q: expected absolute paths and Args[0]", cmd.Path, cmd.Dir)
	case len(cmd.Args)+len(cmd.Env) > MaxStrings || size > MaxCommandBytes:
		return fmt.Errorf("exec %s: %d strings of %d bytes; at most %d of %d are allowed: %w",
			cmd.Path, len(cmd.Args)+len(cmd.Env), size, MaxStrings, MaxCommandBytes, syscall.E2BIG)
	case len(cmd.Extra) > MaxExtra:
		return fmt.Errorf("exec %s: %d extra files; at most %d are allowed", cmd.Path, len(cmd.Extra), MaxExtra)
	}
	return nil
}
