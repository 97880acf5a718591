package code

import "errors"

// Inspect verifies an uploaded zip completely (names, kinds, links, checksums, sizes) before it is stored. It holds no
// more than the directory of the zip in memory. Errors are *lambda.Error with Lambda's codes and texts.
func Inspect(zip []byte) (Info, error) { return Info{}, errors.New("not built yet") }
