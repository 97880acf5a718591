package catalog

import (
	"sync"
	"sync/atomic"

	"berth/lambda"
	"berth/store"
)

// RuntimeChoice says in which version of its runtime a function version's calls run now. It is the one place where mode and
// rollout meet, and reads the mirror only:
//
//	container images have no runtime: the zero value
//	Manual, FunctionUpdate    the version that is kept with the function
//	Auto, with a trial of the same runtime and code   what the trial says: a pin, and a share of the calls while its candidate is the runtime's
//	Auto, else                the runtime's current version; without a record of the runtime, the workers' own
//
// So the end of a rollout is one write, of the runtime's state: a trial whose candidate has become the current version, or is
// none any more, means nothing, and is removed at leisure.
//
// Every call asks, so what was found is kept until the next write to the catalog: 20 ns and no allocation.
func (c *Catalog) RuntimeChoice(v *lambda.Version) lambda.RuntimeChoice {
	if v.Image != nil {
		return lambda.RuntimeChoice{}
	}
	if m := v.Management; m.Mode == lambda.RuntimeManual || m.Mode == lambda.RuntimeFunctionUpdate {
		return lambda.RuntimeChoice{Version: m.Version}
	}
	at := c.mirror.Revision()
	known := c.choices.Load()
	if known == nil || known.at != at || known.n.Load() >= maxChoices {
		known = &choices{at: at}
		c.choices.Store(known)
	}
	if found, ok := known.of.Load(v); ok {
		if one := found.(*choice); one.code == v.Code && one.runtime == v.Runtime { // else it is a copy that was changed
			return one.RuntimeChoice
		}
	}
	one := &choice{c.autoChoice(v), v.Code, v.Runtime}
	if c.mirror.Revision() == at { // else it may be newer than that
		known.of.Store(v, one)
		known.n.Add(1)
	}
	return one.RuntimeChoice
}

// maxChoices bounds how many choices are kept: callers may ask with copies.
const maxChoices = 1 << 17

// choices are what RuntimeChoice found at one revision of the mirror, by the *lambda.Version that the mirror gave out. Entries that are
// kept keep their version alive, so no other one has its address.
type choices struct {
	at store.Revision
	of sync.Map
	n  atomic.Int64
}

type choice struct {
	lambda.RuntimeChoice
	code    lambda.CodeDigest
	runtime string
}

// autoChoice is RuntimeChoice for Auto.
func (c *Catalog) autoChoice(v *lambda.Version) lambda.RuntimeChoice {
	state, ok := c.RuntimeState(v.Runtime)
	if !ok {
		return lambda.RuntimeChoice{Version: lambda.HostRuntime}
	}
	t, ok := find[Trial](c, ID{v.Account, v.Function}.trial(v.Number))
	if !ok || t.Runtime != v.Runtime || t.Code != v.Code {
		return lambda.RuntimeChoice{Version: state.Current}
	}
	found := lambda.RuntimeChoice{Version: state.Current}
	if t.Candidate != "" && t.Candidate == state.Candidate && t.Rollout == state.Rollout {
		found.Candidate, found.Fraction, found.Trial = t.Candidate, t.Fraction, &t.RuntimeTrial
	}
	if t.Pinned && (t.Candidate == "" || t.Candidate != state.Current) {
		found.Version = t.Version
	}
	return found
}
