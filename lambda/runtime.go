package lambda

import "time"

// RuntimeVersionID is the hexadecimal digest (64 digits) that names one immutable version of a runtime.
type RuntimeVersionID string

// HostRuntime stands for the version that the workers themselves have installed, whatever its digest is there.
const HostRuntime RuntimeVersionID = "host"

// ARN returns the runtime version's name as RuntimeVersionConfig and INIT_START lines show it.
func (id RuntimeVersionID) ARN(region string) string {
	return "arn:aws:lambda:" + region + "::runtime:" + string(id)
}

// UpdateRuntimeOn says when a function version moves to another version of its runtime, in the API's own words.
type UpdateRuntimeOn string

// The modes. "" is RuntimeAuto.
const (
	RuntimeAuto           UpdateRuntimeOn = "Auto"           // when the runtime moves; by trial if there is a rollout
	RuntimeFunctionUpdate UpdateRuntimeOn = "FunctionUpdate" // when the function's code or configuration is changed
	RuntimeManual         UpdateRuntimeOn = "Manual"         // never: RuntimeManagement.Version holds
)

// RuntimeManagement is a function version's runtime management configuration. The zero value is Auto.
type RuntimeManagement struct {
	Mode    UpdateRuntimeOn  `json:",omitempty"`
	Version RuntimeVersionID `json:",omitempty"` // with FunctionUpdate and Manual, HostRuntime included
}

// RuntimeRelease is one version of a runtime that was added to a server. It is immutable but for Deprecated.
type RuntimeRelease struct {
	ID         RuntimeVersionID `json:"id"` // the digest of its image's manifest
	Number     int              `json:"number"`
	Source     string           `json:"source"` // what it was made from, with a digest
	Bytes      int64            `json:"bytes"`  // as stored
	Added      time.Time        `json:"added"`
	Deprecated bool             `json:"deprecated,omitempty"`
}

// RuntimeState is what a server knows of one runtime, and where its functions are to be. A runtime without one has the workers'
// own version only.
type RuntimeState struct {
	Name     string           `json:"name"`
	Releases []RuntimeRelease `json:"releases"` // the oldest first
	// Current is the version of Auto functions, and of those with FunctionUpdate when they are updated: a release or HostRuntime.
	Current RuntimeVersionID `json:"current"`
	// Candidate is the version that a rollout tries, "" when there is none. A function runs in it only as far as its
	// RuntimeTrial says.
	Candidate RuntimeVersionID `json:"candidate,omitempty"`
	// Rollout is the ID of the rollout that goes on; trials of others mean nothing but their pins.
	Rollout string `json:"rollout,omitempty"`
}

// RuntimeTrial is a rollout's word on one function version. It overrides RuntimeState.Current while it holds: for Auto
// functions of the same runtime, with the same code.
type RuntimeTrial struct {
	ID      string     `json:"id,omitempty"` // of this trial alone
	Runtime string     `json:"runtime"`
	Code    CodeDigest `json:"code"` // a code update clears the word: what was found out is not known of other code
	// Version is where a pinned function's calls run that are not tried.
	Version RuntimeVersionID `json:"version"`
	// Candidate gets Fraction of the calls, 0–1, by the draw of each call, as long as it is RuntimeState.Candidate.
	Candidate RuntimeVersionID `json:"candidate,omitempty"`
	Fraction  float64          `json:"fraction,omitempty"`
	Stage     int              `json:"stage,omitempty"`  // index of the stage that Fraction is of
	Mark      time.Duration    `json:"mark,omitempty"`   // calls that take longer are counted as slow; 0: not known yet
	Pinned    bool             `json:"pinned,omitempty"` // found incompatible: it stays when the runtime's Current moves
	Reason    string           `json:"reason,omitempty"` // of the pin, for the function's owner
	Changed   time.Time        `json:"changed"`
}

// RuntimeChoice is in which version of its runtime a function version's calls run now. The zero value is a function that has no
// runtime: a container image.
type RuntimeChoice struct {
	Version   RuntimeVersionID
	Candidate RuntimeVersionID // "" without a trial
	Fraction  float64          // of calls that run in Candidate
	Trial     *RuntimeTrial    // with Candidate: for counting; shared
}

// RuntimeDraw is the version of its runtime that one call runs in.
type RuntimeDraw struct {
	Version RuntimeVersionID
	Old     RuntimeVersionID // for a call that was drawn into a trial: where it would run else
	Trial   *RuntimeTrial    // nil for a function that is not on trial
	New     bool             // with Trial: drawn into the candidate
}
