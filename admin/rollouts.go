package admin

import "time"

// MaxRolloutFunctions is how many functions one RolloutDetail lists; RolloutFunctions how many without being asked.
const (
	MaxRolloutFunctions = 10000
	RolloutFunctions    = 100
)

// Rollouts are the last rollouts of all runtimes.
type Rollouts struct {
	Rollouts []Rollout `json:"rollouts"`
}

// Rollout brings the functions of a runtime to another version of it.
type Rollout struct {
	Runtime string    `json:"runtime"`
	ID      string    `json:"id"`
	From    string    `json:"from"` // digests, or "host"
	To      string    `json:"to"`
	Phase   string    `json:"phase"` // running, paused, aborted, done
	Began   time.Time `json:"began"`
	Changed time.Time `json:"changed"`
	Reason  string    `json:"reason,omitempty"` // of the end
	// Functions counts function versions by verdict, and those without one by stage: "1 %", "10 %", "50 %".
	Functions map[string]int `json:"functions"`
}

// RolloutDetail is a rollout with its functions: the incompatible ones first, then those with the strongest evidence.
type RolloutDetail struct {
	Rollout
	Evidence []RolloutFunction `json:"evidence"`
	More     int               `json:"more,omitempty"` // functions that are left out
}

// RolloutFunction is what is known of one function version.
type RolloutFunction struct {
	Account  string       `json:"account"`
	Function string       `json:"function"`
	Version  string       `json:"version"`
	Fraction float64      `json:"fraction"` // of its calls that run in the new version
	Since    time.Time    `json:"since"`
	Verdict  string       `json:"verdict,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Notice   string       `json:"notice,omitempty"` // due, sent, none
	Factor   float64      `json:"factor"`           // by which the evidence favours "worse"; incompatible from 1,000 on
	Old      RolloutCalls `json:"old"`
	New      RolloutCalls `json:"new"`
}

// RolloutCalls is what the calls in one version came to.
type RolloutCalls struct {
	Calls     uint64            `json:"calls"`
	Failed    map[string]uint64 `json:"failed,omitempty"` // by kind
	Unstarted uint64            `json:"unstarted,omitempty"`
	Slow      uint64            `json:"slow"` // of Timed
	Timed     uint64            `json:"timed"`
	MeanMS    float64           `json:"meanMs"`
}

// The actions of a RolloutAction.
const (
	PauseRollout  = "pause"  // no function goes on; those that are worse are pinned still
	ResumeRollout = "resume" // after a pause
	AbortRollout  = "abort"  // every function goes back, at once
)

// RolloutAction changes a rollout that goes on.
type RolloutAction struct {
	Action string `json:"action"`
}
