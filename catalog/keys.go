package catalog

import (
	"fmt"
	"strings"

	"berth/lambda"
	"berth/store"
)

// The keys of this package. All begin with root, so that one watched feed, with one revision, carries them all:
//
//	api/key/ID                        an access key
//	api/account/ACCOUNT               limits and sums of an account
//	api/function/ACCOUNT/NAME         a function's head with its $LATEST version: the lock of everything below
//	api/version/ACCOUNT/NAME/NUMBER   a published version, number with leading zeros (so that they sort)
//	api/alias/ACCOUNT/NAME/ALIAS      an alias
//	api/policy/ACCOUNT/NAME/QUALIFIER a resource policy; "=" stands for the unqualified function (no alias has that name)
//	api/provisioned/ACCOUNT/NAME/QUALIFIER provisioned concurrency of a version or alias
//	api/ring/VERSION                  a version of the ring of managers, with leading zeros
//	api/ringplan                      what an operator wants of the ring
//	api/pending/ACCOUNT/NAME/WHAT     work that outlives a crash: a version number or "=" ($LATEST) to prepare, "=delete"
const (
	root = "api/"

	keyPrefix      = root + "key/"
	accountPrefix  = root + "account/"
	functionPrefix = root + "function/"
	versionPrefix  = root + "version/"
	aliasPrefix    = root + "alias/"
	policyPrefix   = root + "policy/"
	pendingPrefix  = root + "pending/"

	provisionedPrefix = root + "provisioned/"

	ringPrefix  = root + "ring/"
	ringPlanKey = root + "ringplan"

	unqualified    = "="       // last segment for $LATEST and the function itself
	pendingRemoval = "=delete" // last segment of a deletion that takes several batches
)

// ID names a function within the catalog.
type ID struct {
	Account lambda.AccountID
	Name    string
}

func (id ID) under(prefix string) string  { return prefix + string(id.Account) + "/" + id.Name + "/" }
func (id ID) head() store.Key             { return store.Key(functionPrefix + string(id.Account) + "/" + id.Name) }
func (id ID) alias(name string) store.Key { return store.Key(id.aliases() + name) }
func (id ID) versions() string            { return id.under(versionPrefix) }
func (id ID) aliases() string             { return id.under(aliasPrefix) }
func (id ID) policies() string            { return id.under(policyPrefix) }
func (id ID) provisions() string          { return id.under(provisionedPrefix) }
func (id ID) pendings() string            { return id.under(pendingPrefix) }

// version returns the key of a published version. Numbers of more than ten digits do not exist.
func (id ID) version(number string) store.Key {
	zeros := "0000000000"
	zeros = zeros[min(len(number), len(zeros)):]
	return store.Key(versionPrefix + string(id.Account) + "/" + id.Name + "/" + zeros + number)
}

func (id ID) policy(qualifier string) store.Key {
	if qualifier == "" || qualifier == lambda.Latest {
		qualifier = unqualified
	}
	return store.Key(id.policies() + qualifier)
}

func (id ID) provision(qualifier string) store.Key { return store.Key(id.provisions() + qualifier) }

func (id ID) pending(number string) store.Key {
	if number == lambda.Latest {
		number = unqualified
	}
	return store.Key(id.pendings() + number)
}

// Work is one pending entry: a version to prepare, or a function to remove.
type Work struct {
	ID
	Number string // Latest or a version number; "" for a removal
}

// parsePending is the inverse of ID.pending.
func parsePending(k store.Key) (Work, error) {
	parts := strings.Split(strings.TrimPrefix(string(k), pendingPrefix), "/")
	if len(parts) != 3 {
		return Work{}, fmt.Errorf("catalog: pending key %q: want ACCOUNT/NAME/WHAT", k)
	}
	w := Work{ID: ID{lambda.AccountID(parts[0]), parts[1]}, Number: parts[2]}
	switch parts[2] {
	case unqualified:
		w.Number = lambda.Latest
	case pendingRemoval:
		w.Number = ""
	}
	return w, nil
}
