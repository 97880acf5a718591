// Package auth verifies who signed a request (AWS Signature Version 4).
package auth

import "berth/lambda"

// Keys finds access keys. Implementations are fast (a map look-up) and safe for concurrent use.
type Keys interface {
	AccessKey(id string) (lambda.AccessKey, bool)
}
