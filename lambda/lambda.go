// Package lambda holds the nouns that Berth's roles speak to one another: accounts, functions, versions, environments,
// invocations and the closed set of error codes. It does no I/O and reads no clock.
package lambda

import (
	"strings"
	"time"
)

// AccountID names the owner of functions: twelve decimal digits.
type AccountID string

// AccessKey is a pair of credentials with which requests are signed.
type AccessKey struct {
	ID      string    // 16–128 letters and digits
	Secret  string    // never logged
	Account AccountID // whom the key speaks for

	User       string // "" is the account's root
	Restricted bool   // the key has an identity policy
}

// Latest is the number of the one mutable version of every function.
const Latest = "$LATEST"

// CodeDigest is the hexadecimal SHA-256 of an uploaded zip, or of a container image's manifest: its name among the blobs and in
// the code cache.
type CodeDigest string

// State is a version's place in its life, in the API's own words.
type State string

// The states that Berth gives a version.
const (
	Pending State = "Pending" // code or runtime is being made ready; not invocable yet
	Active  State = "Active"
	Failed  State = "Failed" // see Version.StateReason
)

// Version is what a worker must know to run one version of a function. It is immutable: a change of $LATEST makes a new
// value with another ConfigID.
type Version struct {
	Account  AccountID
	Region   string
	Function string // name without ARN
	Number   string // Latest or a decimal number
	// ConfigID is different for every code and every configuration that ever was in force, also across deletion and
	// re-creation of a function of the same name. An environment serves one ConfigID only.
	ConfigID string

	State       State
	StateReason string

	Code    CodeDigest
	Layers  []CodeDigest `json:",omitempty"` // zips shown together at /opt; of files of one name the last one's
	Runtime string       // "python3.11", "provided.al2023"; "" for a container image
	Handler string
	// Image is set when the function is a container image: Code is the digest of its manifest then.
	Image *Image `json:",omitempty"`
	// Management says when the function moves to other versions of its runtime.
	Management  RuntimeManagement `json:",omitzero"`
	MemoryMB    int               // 128–10,240
	Timeout     time.Duration     // 1–900 s
	EphemeralMB int               // size of /tmp, 512–10,240
	Env         map[string]string
	Logging     Logging
	// PerTenant: every call names a tenant, and no environment serves two of them. It never changes.
	PerTenant bool `json:",omitempty"`
}

// Image is a function's container image, and what its owner has set in place of the image's own settings.
type Image struct {
	URI              string   // as its owner wrote it
	Resolved         string   // the same with the manifest's digest
	EntryPoint       []string `json:",omitempty"` // nil: the image's
	Command          []string `json:",omitempty"` // nil: the image's
	WorkingDirectory string   `json:",omitempty"` // "": the image's
}

// ARN returns the version's qualified ARN (…:function:NAME:NUMBER).
func (v *Version) ARN() string { return v.FunctionARN() + ":" + v.Number }

// FunctionARN returns the ARN of the version's function, unqualified.
func (v *Version) FunctionARN() string { return FunctionARN(v.Region, v.Account, v.Function) }

// FunctionARN builds the unqualified ARN of a function.
func FunctionARN(region string, account AccountID, name string) string {
	return "arn:aws:lambda:" + region + ":" + string(account) + ":function:" + name
}

// LogFormat selects how an environment's log lines look.
type LogFormat string

// The API's two log formats.
const (
	Text LogFormat = "Text"
	JSON LogFormat = "JSON"
)

// Logging says where a version's logs go and what they keep. The levels apply to JSON only; "" means INFO.
type Logging struct {
	Format           LogFormat
	Group            string // "/aws/lambda/NAME" unless set
	ApplicationLevel string // TRACE DEBUG INFO WARN ERROR FATAL
	SystemLevel      string // DEBUG INFO WARN
}

// EnvironmentKey is everything that must be equal for an environment to be reused (invariant I2). It is comparable.
type EnvironmentKey struct {
	Account  AccountID
	Function string
	Version  string
	ConfigID string
	Runtime  RuntimeVersionID
	Tenant   string // "" without tenant isolation; Unbound while it has served no tenant
}

// PoolID names the unit of concurrency limit and of routing: an account's unreserved pool or one function's reserved one.
type PoolID struct {
	Account  AccountID
	Function string // "" is the account's unreserved pool
}

// EnvironmentID names one environment, on any worker, for ever.
type EnvironmentID string

// WorkerID and ManagerID name one running worker or manager process (or the one inside an all-roles process).
type (
	WorkerID  string
	ManagerID string
)

// Reservation is the exclusive, expiring right to run one invocation in one environment.
type Reservation struct {
	Environment EnvironmentID
	Worker      WorkerID
	// Number counts the environment's reservations from 1. The worker takes none but the next after the last it saw used or
	// given back, so a call that arrives twice or late runs once or not at all. 0 is not checked.
	Number  uint64
	Expires time.Time // by when the invocation must have reached the worker
	Cold    bool      // the environment was made for this reservation and may still be initialising
}

// Invocation is one call of one version.
type Invocation struct {
	RequestID     string // UUID, the answer's x-amzn-RequestId
	InvokedARN    string // the function's ARN with the qualifier that the caller wrote, if any
	Payload       []byte // JSON, at most MaxPayload bytes
	ClientContext string // JSON text (decoded from the header's base64), "" if none
	TraceID       string // X-Amzn-Trace-Id, "" if none
	Tenant        string // "" for functions without tenant isolation
	// TenantToken proves to others, for a while, that the call is one of this tenant; "" where no token is asked for. It is a
	// secret: never logged.
	TenantToken string
	WantLog     bool // the caller asks for the last LogTail bytes of its log
	// Stream, when not nil, takes the response's bytes as they come. Not every runtime streams: a response that was not streamed
	// is in Outcome.Payload as without.
	Stream ResponseStream `json:"-"`
	// Version is the number of the version that runs: for the Invoker to fill in before a streamed response begins.
	Version string `json:"-"`
}

// ResponseStream takes a response while the function still makes it. Its methods are called one after the other, and never
// after Invoke has returned. An error means that the caller has left: the invocation goes on, its bytes are dropped.
type ResponseStream interface {
	// Begin is called once, before the first Write, when the function begins its response. contentType is "" when the runtime
	// gave none.
	Begin(contentType string) error
	// Write passes bytes on at once. p is valid during the call only.
	Write(p []byte) (int, error)
}

// Interrupter is what a ResponseStream may be, too: one that can wait for its reader. Interrupt is called, from any goroutine, when
// the invocation's time is over while Begin or Write waits: they must return soon, and may fail.
type Interrupter interface{ Interrupt() }

// Outcome is the one answer of one Invocation that reached a runtime.
type Outcome struct {
	Payload       []byte
	FunctionError string // "", "Unhandled" or "Handled": the X-Amz-Function-Error header
	Class         Class
	Log           []byte // at most LogTail bytes, when asked for
	Version       string // number of the version that ran
	Cold          bool
	Duration      time.Duration // of the handler, as reported in the log
	// Streamed: the response, or what there was of it, went to Invocation.Stream. When the function failed after it had begun,
	// FunctionError says so and Payload is the error's JSON.
	Streamed bool
	// Unseen: the function was never given the event, since its initialisation failed. Running the call elsewhere does not run it twice.
	Unseen bool `json:",omitempty"`
}

// Class sorts outcomes for verdicts and metrics.
type Class string

// The outcome classes.
const (
	OK          Class = "ok"
	HandlerErr  Class = "handler-error" // the function answered with an error
	InitErr     Class = "init-error"
	TimedOut    Class = "timeout"
	Exited      Class = "exit" // the runtime process ended by itself or by a signal
	OutOfMemory Class = "out-of-memory"
	TooLarge    Class = "response-too-large"
)

// Sizes of the invoke path, in bytes.
const (
	MaxPayload  = 6291556 // synchronous request and response; recorded on AWS 24-11-2025
	MaxAsync    = 262144  // asynchronous request; developer guide
	LogTail     = 4096    // X-Amz-Log-Result before base64
	MaxCodeZip  = 52428800
	MaxUnpacked = 262144000
)

// InitTimeout bounds the init phase of a cold start; a slower init is started again within the function's own timeout.
const InitTimeout = 10 * time.Second

// IsVersionNumber reports whether s names a published version ("1", "27") or Latest.
func IsVersionNumber(s string) bool {
	return s == Latest || (s != "" && strings.Trim(s, "0123456789") == "")
}
