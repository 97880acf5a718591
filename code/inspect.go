package code

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"

	"berth/lambda"
)

// Inspect verifies an uploaded zip completely (names, kinds, links, checksums, sizes) before it is stored, by unpacking it
// to nowhere. Memory beyond zip itself is bounded by the number of entries.
//
// Errors are *lambda.Error: RequestEntityTooLarge for a zip of more than lambda.MaxCodeZip bytes, InvalidParameterValue with
// Lambda's texts for all else. Where Lambda has one text for many faults ("Could not unzip …"), the fault follows in brackets.
func Inspect(zip []byte) (Info, error) {
	switch {
	case len(zip) > lambda.MaxCodeZip:
		return Info{}, lambda.Errorf(lambda.RequestEntityTooLarge, textZipped, lambda.MaxCodeZip)
	case len(zip) == 0:
		return Info{}, &lambda.Error{Code: lambda.InvalidParameterValue, Message: textEmpty}
	}
	plan, err := newPlan(bytes.NewReader(zip), int64(len(zip)))
	if err != nil {
		return Info{}, err
	}
	buf := make([]byte, copyBuffer)
	for i := range plan.files {
		if _, err := plan.files[i].copyTo(io.Discard, buf); err != nil {
			return Info{}, refuse("")
		}
	}
	sum := sha256.Sum256(zip)
	return Info{
		Digest:   lambda.CodeDigest(hex.EncodeToString(sum[:])),
		SHA256:   base64.StdEncoding.EncodeToString(sum[:]),
		Size:     int64(len(zip)),
		Unpacked: plan.bytes,
		Files:    len(plan.files),
	}, nil
}
