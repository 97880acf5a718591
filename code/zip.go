package code

import "errors"

// Zip packs a directory (its content at the root of the zip) or a single file into a deterministic zip.
func Zip(path string) ([]byte, error) { return nil, errors.New("not built yet") }
