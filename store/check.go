package store

import (
	"fmt"
	"strings"

	"berth/lambda"
)

// Limits of the ports.
const (
	MaxKey   = 1024        // bytes of a key
	MaxValue = 512<<10 - 1 // bytes of a record
	MaxOps   = 500         // writes in one batch
	MaxBatch = 16 << 20    // bytes of the keys and values of one batch
	MaxBlob  = 10 << 30    // bytes of a blob: a layer of a container image may be as large as an image
)

// CheckKey refuses a key that is not of the package comment's form, or longer than MaxKey. Error: ErrInvalid.
func CheckKey(k Key) error {
	if len(k) > MaxKey {
		return fmt.Errorf("%w key of %d bytes: expected at most %d", ErrInvalid, len(k), MaxKey)
	}
	segment := 0
	for i := range len(k) {
		c := k[i]
		switch {
		case c == '/' && segment > 0:
			segment = 0
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '=', c == '-':
			segment++
		default:
			return fmt.Errorf("%w key %q: expected segments of [A-Za-z0-9_=-]+ joined by '/'", ErrInvalid, k)
		}
	}
	if segment == 0 {
		return fmt.Errorf("%w key %q: it is empty or ends with '/'", ErrInvalid, k)
	}
	return nil
}

// CheckPrefix refuses what is neither "" nor a key followed by '/'. Error: ErrInvalid.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	key, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("%w prefix %q: expected a key followed by '/', or nothing", ErrInvalid, prefix)
	}
	return CheckKey(Key(key))
}

// CheckOps refuses a batch that Apply must refuse before it looks at any entry. Error: ErrInvalid.
func CheckOps(ops []Op) error {
	if len(ops) == 0 || len(ops) > MaxOps {
		return fmt.Errorf("%w batch of %d writes: expected 1 to %d", ErrInvalid, len(ops), MaxOps)
	}
	total := 0
	var seen map[Key]struct{}
	if len(ops) > 1 {
		seen = make(map[Key]struct{}, len(ops))
	}
	for _, op := range ops {
		if err := CheckKey(op.Key); err != nil {
			return err
		}
		if len(op.Value) > MaxValue {
			return fmt.Errorf("%w value of %q with %d bytes: expected at most %d", ErrInvalid, op.Key, len(op.Value), MaxValue)
		}
		if seen != nil {
			if _, twice := seen[op.Key]; twice {
				return fmt.Errorf("%w batch: key %q occurs twice", ErrInvalid, op.Key)
			}
			seen[op.Key] = struct{}{}
		}
		total += len(op.Key) + len(op.Value)
	}
	if total > MaxBatch {
		return fmt.Errorf("%w batch of %d bytes: expected at most %d", ErrInvalid, total, MaxBatch)
	}
	return nil
}

// CheckDigest refuses what is not a hexadecimal SHA-256 in lower case. Error: ErrInvalid.
func CheckDigest(d lambda.CodeDigest) error {
	ok := len(d) == 64
	for i := range len(d) {
		ok = ok && ('0' <= d[i] && d[i] <= '9' || 'a' <= d[i] && d[i] <= 'f')
	}
	if !ok {
		return fmt.Errorf("%w digest %q: expected 64 hexadecimal digits in lower case", ErrInvalid, d)
	}
	return nil
}
