// Package catalog is the typed face of store.Catalog: functions, versions, aliases, policies, accounts and keys, with a
// watched copy in memory that the invoke path reads without I/O.
package catalog

import "berth/lambda"

// Target is what a Ref resolved to.
type Target struct {
	Version    *lambda.Version // shared: not to be changed
	Pool       lambda.PoolID
	Reserved   int    // the function's reserved concurrency; -1 when it has none
	InvokedARN string // with the qualifier that the caller wrote
}
