// Package code turns uploaded zips into verified, content-addressed, read-only trees, and caches those on a worker's disk.
package code

import "berth/lambda"

// Info describes a verified zip.
type Info struct {
	Digest   lambda.CodeDigest // what store.Blobs.Put will answer for the same bytes
	SHA256   string            // base64 of the digest, as CodeSha256 shows it
	Size     int64             // bytes of the zip
	Unpacked int64             // bytes of its files
	Files    int               // regular files and symbolic links
}
