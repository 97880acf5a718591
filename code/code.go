// Package code turns uploaded zips into verified, content-addressed, read-only trees, and caches those on a worker's disk.
//
// A zip is hostile. The same plan is made of it when it is inspected at upload and when it is unpacked: every name local,
// short and printable, every parent a directory, no name used twice, only files, directories and symbolic links that
// cannot lead out of the tree, and declared sizes whose sum is bounded and which archive/zip then holds the data to.
package code

import (
	"berth/lambda"
)

// Info describes a verified zip.
type Info struct {
	Digest   lambda.CodeDigest // what store.Blobs.Put will answer for the same bytes
	SHA256   string            // base64 of the digest, as CodeSha256 shows it
	Size     int64             // bytes of the zip
	Unpacked int64             // bytes of its files
	Files    int               // regular files and symbolic links
}

// Limits of a zip beside lambda.MaxCodeZip and lambda.MaxUnpacked; Lambda's own are not published.
const (
	maxNodes     = 100_000  // files, links and directories, implied ones included
	maxDirectory = 16 << 20 // bytes of the zip's directory, read before any entry is known
	maxName      = 1024     // bytes of an entry's path; it must fit PATH_MAX below any mount point
	maxSegment   = 255      // bytes of one name: NAME_MAX
	maxTarget    = 1024     // bytes of a symbolic link's target
)

const (
	textUnzip  = "Could not unzip uploaded file. Please check your file, then try to upload again."
	textEmpty  = "Uploaded file must be a non-empty zip"
	textZipped = "Zipped size must be smaller than %d bytes"
	textSize   = "Unzipped size must be smaller than %d bytes"
)

// refuse is Lambda's answer to any zip it does not like. A reason, for what Lambda would only say "could not" about,
// follows Lambda's own text.
func refuse(reason string) error {
	if reason != "" {
		reason = " (" + reason + ")"
	}
	return &lambda.Error{Code: lambda.InvalidParameterValue, Message: textUnzip + reason}
}
