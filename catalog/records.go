package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"time"

	"berth/lambda"
	"berth/policy"
)

// Function is a function's head. What the readers of this package return is shared: not to be changed.
type Function struct {
	// CodeBytes is the size of the zips of all versions. It stays the first member: record.codeBytes reads it off the
	// undecoded text, so that an account's sum over 100,000 functions takes milliseconds.
	CodeBytes int64 `json:"codeBytes"`

	Latest Version `json:"latest"`
	// Serving is the version that $LATEST invocations run while an update is in progress or after it failed: the one
	// before the update. nil means Latest.
	Serving     *lambda.Version   `json:"serving,omitempty"`
	NextVersion int               `json:"next"` // number of the next published version, from 1
	Tags        map[string]string `json:"tags,omitempty"`
	Reserved    *int              `json:"reserved,omitempty"`    // reserved concurrency
	Provisioned int               `json:"provisioned,omitempty"` // sum of the provisioned concurrency of versions and aliases
	Recursive   bool              `json:"recursive,omitempty"`   // may call itself without end
	Signing     string            `json:"signing,omitempty"`     // ID of the code signing configuration
	Deleting    bool              `json:"deleting,omitempty"`    // a removal in several batches has begun: reads as absent

	arn string // unqualified; set on decoding
}

// ID returns the function's name and owner.
func (f *Function) ID() ID { return ID{f.Latest.Account, f.Latest.Function} }

// ARN returns the unqualified ARN.
func (f *Function) ARN() string { return f.arn }

// clone returns a copy whose maps and pointers may be changed.
func (f *Function) clone() *Function {
	next := *f
	next.Tags = maps.Clone(f.Tags)
	return &next
}

// current returns the version that invocations of $LATEST run.
func (f *Function) current() *lambda.Version {
	if f.Serving != nil {
		return f.Serving
	}
	return &f.Latest.Version
}

// UpdateStatus is the API's LastUpdateStatus.
type UpdateStatus string

// The update states; "" before the first preparation has ended.
const (
	InProgress UpdateStatus = "InProgress"
	Successful UpdateStatus = "Successful"
	Failed     UpdateStatus = "Failed"
)

// Version is one version of a function as the API shows it: what a worker needs, and the members that only the API shows.
type Version struct {
	lambda.Version

	CodeSize        int64     `json:",omitempty"` // bytes of the zip
	CodeSHA256      string    `json:",omitempty"` // base64
	Description     string    `json:",omitempty"`
	Role            string    `json:",omitempty"`
	Architecture    string    `json:",omitempty"` // x86_64, arm64
	Modified        time.Time // last change of code or configuration
	RevisionID      string
	StateReasonCode string       `json:",omitempty"`
	Update          UpdateStatus `json:",omitempty"`
	UpdateReason    string       `json:",omitempty"`
	UpdateCode      string       `json:",omitempty"`
	Tracing         string       `json:",omitempty"` // PassThrough, Active
	SnapStart       string       `json:",omitempty"` // None, PublishedVersions
	KMSKey          string       `json:",omitempty"`
	DeadLetter      *string      `json:",omitempty"` // ARN
	VPC             *VPC         `json:",omitempty"`
	Unpacked        int64        `json:",omitempty"` // bytes of the zip's files
	// Attached are the layers that Layers holds the zips of, in the same order.
	Attached []AttachedLayer `json:",omitempty"`

	// Source is the fingerprint of the $LATEST version that a published version was made from.
	Source string `json:",omitempty"`
}

// AttachedLayer is a layer as a version that uses it shows it. The layer itself may have been deleted since.
type AttachedLayer struct {
	ARN      string
	Size     int64 // bytes of the zip
	Unpacked int64 // bytes of its files
}

// VPC keeps a VpcConfig. Berth has no VPCs: it is kept and shown only.
type VPC struct {
	Subnets        []string
	SecurityGroups []string
	IPv6           bool `json:",omitempty"`
}

// fingerprint is equal for equal code and configuration, and nothing else: publishing one twice gives one version.
func (v *Version) fingerprint() (string, error) {
	content := *v
	content.ConfigID, content.RevisionID, content.Source = "", "", ""
	content.State, content.StateReason, content.StateReasonCode = "", "", ""
	content.Update, content.UpdateReason, content.UpdateCode = "", "", ""
	content.Modified = time.Time{}
	content.Management = lambda.RuntimeManagement{}
	text, err := json.Marshal(&content)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), nil
}

// Alias is a named pointer to one version, or to two by weight.
type Alias struct {
	Name        string             `json:"name"`
	Version     string             `json:"version"` // a number or Latest
	Description string             `json:"description,omitempty"`
	Weights     map[string]float64 `json:"weights,omitempty"` // other version → share of calls, 0–1; at most one entry
	RevisionID  string             `json:"revision"`
}

// Policy is the resource policy of a function, version, alias or layer version.
type Policy struct {
	Statements []Statement `json:"statements"`
	RevisionID string      `json:"revision"`

	compiled *policy.Policy // set on decoding
}

// Statement is one statement of a Policy; JSON is its text as the API shows it.
type Statement struct {
	SID  string          `json:"sid"`
	JSON json.RawMessage `json:"json"`
}

// Provisioned is a version's or alias's provisioned concurrency: how many environments are kept initialised for it.
type Provisioned struct {
	Qualifier string    `json:"qualifier"`
	Count     int       `json:"count"`
	Modified  time.Time `json:"modified"`
}

// Account keeps an account's limits, and the sum that guards them.
type Account struct {
	Concurrency int `json:"concurrency"` // concurrent executions, all functions together
	Reserved    int `json:"reserved"`    // sum of the functions' reserved concurrency
	// Provisioned is the sum of the provisioned concurrency of the functions without a reservation: the others' is a part of
	// what they have reserved.
	Provisioned int `json:"provisioned,omitempty"`
}
