package catalog

import (
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
//	api/event/ACCOUNT/NAME/QUALIFIER  what happens to events of a version or alias; "-=" stands for $LATEST, and sorts first
//	api/url/ACCOUNT/NAME/QUALIFIER    a function URL of an alias; "=" stands for the unqualified function
//	api/urlid/ID                      which of those has the URL with this id
//	api/schedule/ACCOUNT/SCHEDULE     a schedule
//	api/layer/ACCOUNT/NAME            a layer's head: the lock of its versions
//	api/layerversion/ACCOUNT/NAME/NUMBER   a layer's version, number with leading zeros
//	api/layerpolicy/ACCOUNT/NAME/NUMBER    its resource policy
//	api/signing/ACCOUNT/ID            a code signing configuration
//	api/mapping/ACCOUNT/UUID          an event source mapping
//	api/runtime/NAME                  the versions of a runtime and which one is used; "=" in the place of dots
//	api/trial/ACCOUNT/NAME/NUMBER     a rollout's word on a function version; "-=" stands for $LATEST
//	api/rollout/NAME                  the last rollout of a runtime
//	api/mappinglock/ACCOUNT           the lock of an account's mappings
//	api/ring/VERSION                  a version of the ring of managers, with leading zeros
//	api/tokenkey/ID                   a public key of tenant tokens
//	api/ringplan                      what an operator wants of the ring
//	api/pending/ACCOUNT/NAME/=delete  a deletion that takes several batches has begun
const (
	root = "api/"

	keyPrefix      = root + "key/"
	accountPrefix  = root + "account/"
	functionPrefix = root + "function/"
	versionPrefix  = root + "version/"
	aliasPrefix    = root + "alias/"
	policyPrefix   = root + "policy/"
	pendingPrefix  = root + "pending/"

	provisionedPrefix  = root + "provisioned/"
	layerPrefix        = root + "layer/"
	layerVersionPrefix = root + "layerversion/"
	layerPolicyPrefix  = root + "layerpolicy/"
	signingPrefix      = root + "signing/"
	mappingPrefix      = root + "mapping/"
	mappingLockPrefix  = root + "mappinglock/"
	runtimePrefix      = root + "runtime/"
	trialPrefix        = root + "trial/"
	rolloutPrefix      = root + "rollout/"

	eventPrefix    = root + "event/"
	schedulePrefix = root + "schedule/"
	urlPrefix      = root + "url/"
	urlIDPrefix    = root + "urlid/"

	tokenKeyPrefix = root + "tokenkey/"

	ringPrefix  = root + "ring/"
	ringPlanKey = root + "ringplan"

	latestFirst    = "-="      // last segment for $LATEST where it comes before versions and aliases
	unqualified    = "="       // last segment for the function itself
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
func (id ID) eventConfigs() string        { return id.under(eventPrefix) }
func (id ID) pendings() string            { return id.under(pendingPrefix) }
func (id ID) urls() string                { return id.under(urlPrefix) }

// version returns the key of a published version. Numbers of more than ten digits do not exist.
func (id ID) version(number string) store.Key { return store.Key(id.versions() + sortable(number)) }

// sortable writes a number with leading zeros.
func sortable(number string) string {
	const zeros = "0000000000"
	return zeros[min(len(number), len(zeros)):] + number
}

func (id ID) policy(qualifier string) store.Key {
	if qualifier == "" || qualifier == lambda.Latest {
		qualifier = unqualified
	}
	return store.Key(id.policies() + qualifier)
}

// eventConfig returns the key of an event configuration; "" is $LATEST.
func (id ID) eventConfig(qualifier string) store.Key {
	if qualifier == "" || qualifier == lambda.Latest {
		qualifier = latestFirst
	}
	return store.Key(id.eventConfigs() + qualifier)
}

func (id ID) trials() string { return id.under(trialPrefix) }

// trial returns the key of a rollout's word; "" is $LATEST.
func (id ID) trial(number string) store.Key {
	if number == "" || number == lambda.Latest {
		return store.Key(id.trials() + latestFirst)
	}
	return store.Key(id.trials() + sortable(number))
}

func (id ID) provision(qualifier string) store.Key { return store.Key(id.provisions() + qualifier) }

// Work is what waits to be done: a version to prepare, or a function to remove.
type Work struct {
	ID
	Number string // Latest or a version number; "" for a removal
}

// parsePending reads the key of a removal.
func parsePending(k store.Key) (Work, bool) {
	parts := strings.Split(strings.TrimPrefix(string(k), pendingPrefix), "/")
	if len(parts) != 3 || parts[2] != pendingRemoval {
		return Work{}, false
	}
	return Work{ID: ID{lambda.AccountID(parts[0]), parts[1]}}, true
}
