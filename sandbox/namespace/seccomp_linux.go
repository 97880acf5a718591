package namespace

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/elastic/go-seccomp-bpf/arch"
	mobyseccomp "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter is the OCI default profile for a container without capabilities, tightened by three things: no process may trace
// or read another's memory (the profile allows ptrace from kernel 4.8 on), sockets are of the families in families only, and
// the core limit cannot be changed (init/setup.c says why).
//
// Its form is a binary search over ranges of system call numbers. The kernel emulates the filter for every number when it is
// installed (to learn which are always allowed), so the usual linear list of 350 comparisons costs 0.15 ms per sandbox; the
// search costs a tenth.

const (
	retAllow = unix.SECCOMP_RET_ALLOW
	retEPERM = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	retENOS  = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

	// Offsets into struct seccomp_data, and the low half of argument i on little-endian machines.
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// families are the socket families a function gets: local, IPv4, IPv6, and netlink, which getifaddrs reads.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK}

// refused are allowed by the profile, at least on some kernels, and are not allowed here.
var refused = []string{
	"ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise",
	"io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "socketcall",
}

// rule says what one system call gets: verdict, or when cond is set, code that ends in a return on every path.
type rule struct {
	verdict uint32
	cond    []bpf.Instruction
}

func ret(v uint32) bpf.Instruction { return bpf.RetConstant{Val: v} }

// seccompFilter assembles the program for this machine, in the layout of struct sock_filter.
func seccompFilter() ([]byte, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	rules, err := profileRules(info)
	if err != nil {
		return nil, err
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1},
		ret(retEPERM), // 32-bit calls on a 64-bit machine; x32 numbers fall off the table's end
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
	}
	tree, err := search(ranges(rules))
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(append(program, tree...))
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	out := make([]byte, 0, len(raw)*8)
	for _, r := range raw {
		out = binary.NativeEndian.AppendUint16(out, r.Op)
		out = append(out, r.Jt, r.Jf)
		out = binary.NativeEndian.AppendUint32(out, r.K)
	}
	return out, nil
}

// profileRules turns the OCI profile into one rule per system call number.
func profileRules(info *arch.Info) (map[uint32]rule, error) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	profile, err := mobyseccomp.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	args := map[uint32][][]specs.LinuxSeccompArg{} // allowed when any of these holds
	rules := map[uint32]rule{}
	for _, call := range profile.Syscalls {
		for _, name := range call.Names {
			nr, known := info.SyscallNames[name]
			if !known || slices.Contains(refused, name) {
				continue
			}
			switch {
			case call.Action == specs.ActErrno && call.ErrnoRet != nil && *call.ErrnoRet == uint(unix.ENOSYS):
				rules[uint32(nr)] = rule{verdict: retENOS}
			case call.Action != specs.ActAllow:
			case len(call.Args) == 0:
				rules[uint32(nr)] = rule{verdict: retAllow}
			default:
				args[uint32(nr)] = append(args[uint32(nr)], call.Args)
			}
		}
	}
	for nr, any := range args {
		if _, whole := rules[nr]; whole || nr == uint32(info.SyscallNames["socket"]) {
			continue
		}
		cond, err := conditions(any)
		if err != nil {
			return nil, fmt.Errorf("seccomp profile, %s: %w", info.SyscallNumbers[int(nr)], err)
		}
		rules[nr] = rule{cond: cond}
	}
	tighten(rules, info)
	return rules, nil
}

func tighten(rules map[uint32]rule, info *arch.Info) {
	var allowed []bpf.Instruction
	for _, f := range families {
		allowed = append(allowed, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: f, SkipTrue: 1}, ret(retAllow))
	}
	load := func(arg, half uint32) bpf.Instruction {
		return bpf.LoadAbsolute{Off: offArgs + 8*arg + 4*half, Size: 4}
	}
	socket := append([]bpf.Instruction{load(0, 0)}, allowed...)
	rules[uint32(info.SyscallNames["socket"])] = rule{cond: append(socket, ret(retEPERM))}
	rules[uint32(info.SyscallNames["socketpair"])] = rule{cond: append(slices.Clone(socket), ret(retEPERM))}
	// prlimit64(pid, RLIMIT_CORE, new, old) may read but not write.
	rules[uint32(info.SyscallNames["prlimit64"])] = rule{cond: []bpf.Instruction{
		load(1, 0),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RLIMIT_CORE, SkipTrue: 1}, ret(retAllow),
		load(2, 0),
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 3},
		load(2, 1),
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1}, ret(retAllow),
		ret(retEPERM),
	}}
	rules[uint32(info.SyscallNames["setrlimit"])] = rule{cond: []bpf.Instruction{
		load(0, 0), bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RLIMIT_CORE, SkipTrue: 1}, ret(retAllow), ret(retEPERM),
	}}
}

// conditions makes code that allows when any of the argument lists holds as a whole, else answers EPERM. The profile's
// conditions are on the low half of arguments (personality, clone flags), where the high half is not looked at by the kernel.
func conditions(any [][]specs.LinuxSeccompArg) ([]bpf.Instruction, error) {
	var code []bpf.Instruction
	for _, all := range any {
		if len(all) != 1 {
			return nil, fmt.Errorf("%d conditions at once", len(all))
		}
		arg := all[0]
		if arg.Value > math.MaxUint32 || arg.ValueTwo > math.MaxUint32 {
			return nil, fmt.Errorf("a condition on more than 32 bits")
		}
		code = append(code, bpf.LoadAbsolute{Off: offArgs + 8*uint32(arg.Index), Size: 4})
		value := uint32(arg.Value)
		switch arg.Op {
		case specs.OpEqualTo:
		case specs.OpMaskedEqual:
			code = append(code, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: value})
			value = uint32(arg.ValueTwo)
		default:
			return nil, fmt.Errorf("condition %s is not known here", arg.Op)
		}
		code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: value, SkipTrue: 1}, ret(retAllow))
	}
	return append(code, ret(retEPERM)), nil
}

// span is a run of system call numbers from first up to the next span's first, that one rule decides.
type span struct {
	first uint32
	rule  rule
}

// ranges covers all numbers with spans in order. Numbers no rule names get EPERM; so do those past the last one.
func ranges(rules map[uint32]rule) []span {
	spans := []span{}
	add := func(first uint32, r rule) {
		if n := len(spans); n > 0 && r.cond == nil && spans[n-1].rule.cond == nil && spans[n-1].rule.verdict == r.verdict {
			return
		}
		spans = append(spans, span{first, r})
	}
	next := uint32(0)
	for _, nr := range slices.Sorted(maps.Keys(rules)) {
		if nr > next {
			add(next, rule{verdict: retEPERM})
		}
		add(nr, rules[nr])
		next = nr + 1
	}
	add(next, rule{verdict: retEPERM})
	return spans
}

// search lays the spans out as a binary search; the system call's number is in the accumulator.
func search(spans []span) ([]bpf.Instruction, error) {
	if len(spans) == 1 {
		if cond := spans[0].rule.cond; cond != nil {
			return cond, nil
		}
		return []bpf.Instruction{ret(spans[0].rule.verdict)}, nil
	}
	half := len(spans) / 2
	low, err := search(spans[:half])
	if err != nil {
		return nil, err
	}
	high, err := search(spans[half:])
	if err != nil {
		return nil, err
	}
	head := []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[half].first, SkipTrue: uint8(min(len(low), 255))}}
	if len(low) > 255 { // further than a conditional jump reaches
		head = []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: spans[half].first, SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(low))},
		}
	}
	return append(append(head, low...), high...), nil
}
