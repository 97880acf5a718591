package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"berth/lambda"
	"berth/store"
)

// record is an entry of the mirror. It is decoded when first asked for: a start with 100,000 functions must not decode
// them all.
type record struct {
	codeBytes int64 // of a function, known without decoding
	pending   bool  // of a function or version: its text looks like one that waits for its preparation

	once  sync.Once
	key   store.Key
	raw   []byte
	value any // what decode makes of the key and the text
	err   error
}

func newRecord(e store.Entry) (*record, error) {
	return &record{key: e.Key, raw: e.Value, codeBytes: leadingCodeBytes(e.Value), pending: looksPending(e.Value)}, nil
}

// leadingCodeBytes reads N from a text that begins with {"codeBytes":N, and gives 0 for any other.
func leadingCodeBytes(raw []byte) int64 {
	rest, ok := bytes.CutPrefix(raw, []byte(`{"codeBytes":`))
	if !ok {
		return 0
	}
	var n int64
	for _, c := range rest {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int64(c-'0')
	}
	return n
}

// looksPending reports whether a record may be that of a version that waits to be made ready. A function's own variables can
// look like that too; a state never looks otherwise.
func looksPending(raw []byte) bool {
	return bytes.Contains(raw, []byte(`"State":"Pending"`)) || bytes.Contains(raw, []byte(`"Update":"InProgress"`))
}

// load decodes the record once and returns its value.
func (r *record) load() (any, error) {
	r.once.Do(func() {
		r.value, r.err = decode(r.key, r.raw)
		r.raw = nil
	})
	return r.value, r.err
}

// decode turns an entry's text into the type that its key calls for.
func decode(key store.Key, raw []byte) (any, error) {
	k := string(key)
	if strings.HasPrefix(k, keyPrefix) {
		return decodeKey(k, raw)
	}
	v := blank(k)
	if v == nil {
		return nil, fmt.Errorf("catalog: key %q is of no known kind", k)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("catalog: entry %q: %w", k, err)
	}
	switch v := v.(type) {
	case *Function:
		v.arn = v.Latest.FunctionARN()
	case *Policy:
		v.compile()
	}
	return v, nil
}

// blank returns an empty record of the kind that a key names, or nil.
func blank(k string) any {
	switch {
	case strings.HasPrefix(k, functionPrefix):
		return new(Function)
	case strings.HasPrefix(k, versionPrefix):
		return new(Version)
	case strings.HasPrefix(k, aliasPrefix):
		return new(Alias)
	case strings.HasPrefix(k, policyPrefix):
		return new(Policy)
	case strings.HasPrefix(k, provisionedPrefix):
		return new(Provisioned)
	case strings.HasPrefix(k, eventPrefix):
		return new(EventConfig)
	case strings.HasPrefix(k, urlPrefix):
		return new(URL)
	case strings.HasPrefix(k, urlIDPrefix):
		return new(urlOwner)
	case strings.HasPrefix(k, schedulePrefix):
		return new(Schedule)
	case strings.HasPrefix(k, accountPrefix):
		return new(Account)
	case strings.HasPrefix(k, layerPrefix):
		return new(layerHead)
	case strings.HasPrefix(k, layerVersionPrefix):
		return new(LayerVersion)
	case strings.HasPrefix(k, layerPolicyPrefix):
		return new(Policy)
	case strings.HasPrefix(k, signingPrefix):
		return new(CodeSigning)
	case strings.HasPrefix(k, mappingPrefix):
		return new(Mapping)
	case strings.HasPrefix(k, tokenKeyPrefix):
		return new(lambda.TokenKey)
	case strings.HasPrefix(k, ringPrefix):
		return new(RingVersion)
	case k == ringPlanKey:
		return new(RingPlan)
	case strings.HasPrefix(k, runtimePrefix):
		return new(lambda.RuntimeState)
	case strings.HasPrefix(k, trialPrefix):
		return new(Trial)
	case strings.HasPrefix(k, rolloutPrefix):
		return new(Rollout)
	}
	return nil
}

// encode is the inverse of decode.
func encode(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("catalog: encode %T: %w", v, err)
	}
	return raw, nil
}
