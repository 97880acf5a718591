package lambda

import "time"

// ProvisionedRequest asks the first manager of a pool's order what there is of the provisioned concurrency of one version or
// alias. It says what is wanted, since asker and asked may know the catalog of different moments.
type ProvisionedRequest struct {
	Account   AccountID
	Function  string
	Qualifier string
	Changed   time.Time        // when it was last put: failures before do not count
	Keys      []EnvironmentKey // of the environments that are wanted
}

// ProvisionedAnswer is what there is.
type ProvisionedAnswer struct {
	Allocated int  // environments that are initialised, those of an alias's version before included until they are replaced
	Current   int  // of these, those with one of the keys
	Failed    bool // the last environment that was started failed to initialise; it is tried again, ever less often
}
