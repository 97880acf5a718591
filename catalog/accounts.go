package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"berth/lambda"
	"berth/store"
)

// Limits of an account (developer guide).
const (
	defaultConcurrency = 1000 // concurrent executions
	minUnreserved      = 100  // of these stay for functions without a reservation

	maxConcurrency = 10_000_000 // of any account: a bound on what is typed, far above what a cluster runs
)

// FirstAccount is the account that a new data directory begins with.
const FirstAccount lambda.AccountID = "000000000001"

// Account returns an account's limits; an account without a record has the defaults.
func (c *Catalog) Account(a lambda.AccountID) Account {
	if acc, ok := find[Account](c, accountKey(a)); ok {
		return *acc
	}
	return Account{Concurrency: defaultConcurrency}
}

// Unreserved returns how much concurrency is left for functions without a reservation, beside what is provisioned for them.
func (a Account) Unreserved() int { return a.Concurrency - a.Reserved - a.Provisioned }

// SetConcurrency sets how many executions of an account may run at once. Error: InvalidParameterValue when less than 100
// of them would stay unreserved.
func (c *Catalog) SetConcurrency(ctx context.Context, a lambda.AccountID, n int) (Account, error) {
	var written Account
	attempt := func(ctx context.Context) error {
		next, revision, err := c.account(a)
		if err != nil {
			return err
		}
		next.Concurrency = n
		if next.Unreserved() < minUnreserved || n > maxConcurrency {
			return invalid("Concurrency is %d; expected at least %d (%d are reserved or provisioned, and %d must stay unreserved) and at most %d.",
				n, n-next.Unreserved()+minUnreserved, n-next.Unreserved(), minUnreserved, maxConcurrency)
		}
		raw, err := encode(&next)
		if err != nil {
			return err
		}
		written = next
		return c.apply(ctx, []store.Op{{Key: accountKey(a), Value: raw, Expect: revision}})
	}
	return written, c.retry(ctx, attempt, accountKey(a))
}

// account returns a copy of an account's record for a change, and its revision: 0 when it has none yet.
func (c *Catalog) account(a lambda.AccountID) (Account, store.Revision, error) {
	acc, revision, err := get[Account](c, accountKey(a))
	if errors.Is(err, store.ErrNotFound) {
		return Account{Concurrency: defaultConcurrency}, revision, nil
	}
	if err != nil {
		return Account{}, 0, err
	}
	return *acc, revision, nil
}

// SetReserved sets a function's reserved concurrency, nil for none. Errors: ResourceNotFound, InvalidParameterValue when
// less than 100 would stay unreserved.
func (c *Catalog) SetReserved(ctx context.Context, id ID, n *int) error {
	missing := NotFound(c.arn(id, lambda.Latest)) // with $LATEST, as recorded
	_, err := c.change(ctx, id, missing, func(ch *change) error { return ch.reserve(c, n) })
	return err
}

// reserve stages the change of a reservation.
func (ch *change) reserve(c *Catalog, n *int) error {
	if n != nil && *n < ch.Function.Provisioned {
		// Text as users report it; not among the recordings.
		return invalid("ReservedConcurrentExecutions  %d should not be lower than function's total provisioned concurrency [%d].", *n, ch.Function.Provisioned)
	}
	return ch.hold(c, n, ch.Function.Provisioned)
}

// hold stages what the function holds of its account from now on: its reserved (nil for none) and its provisioned
// concurrency. The account's sums are guarded by that record's own revision: so two functions can never hold the same.
func (ch *change) hold(c *Catalog, reserved *int, provisioned int) error {
	before := shareOf(ch.Reserved, ch.Function.Provisioned)
	ch.Reserved, ch.Function.Provisioned = reserved, provisioned
	after := shareOf(reserved, provisioned)
	if before == after {
		return nil
	}
	next, revision, err := c.account(ch.id.Account)
	if err != nil {
		return err
	}
	unreserved := next.Unreserved()
	next.Reserved += after.reserved - before.reserved
	next.Provisioned += after.provisioned - before.provisioned
	if next.Unreserved() < unreserved && next.Unreserved() < minUnreserved {
		return tooMuch(after, unreserved)
	}
	raw, err := encode(&next)
	if err != nil {
		return err
	}
	ch.stage(store.Op{Key: accountKey(ch.id.Account), Value: raw, Expect: revision})
	return nil
}

// share is what one function takes of its account's concurrency.
type share struct{ reserved, provisioned int }

func shareOf(reserved *int, provisioned int) share {
	if reserved != nil {
		return share{reserved: *reserved} // what is provisioned is a part of it
	}
	return share{provisioned: provisioned}
}

// tooMuch refuses a share that would leave the account too little. That of a provisioned one is a validated text of
// test_provisioned_concurrency_limits.
func tooMuch(s share, unreserved int) error {
	switch {
	case s.provisioned > unreserved:
		return invalid("Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [%d].", unreserved)
	case s.provisioned > 0:
		return invalid("Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", minUnreserved)
	}
	return invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", minUnreserved)
}

// release gives back to the account what a function holds.
func (ch *change) release(c *Catalog) error { return ch.hold(c, nil, 0) }

// FirstKey returns an access key of FirstAccount. A catalog without any access key gets the account and a random key;
// created tells so. Call it when Ready.
func (c *Catalog) FirstKey(ctx context.Context) (key lambda.AccessKey, created bool, err error) {
	if k, ok := c.keyOf(FirstAccount); ok {
		return k, false, nil
	}
	key = lambda.AccessKey{ID: "AKIA" + random(16, upper), Secret: random(40, upper+lower+"+/"), Account: FirstAccount}
	secret, err := encode(&accessKey{Secret: key.Secret, Account: key.Account})
	if err != nil {
		return lambda.AccessKey{}, false, err
	}
	account, err := encode(&Account{Concurrency: defaultConcurrency})
	if err != nil {
		return lambda.AccessKey{}, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	ops := []store.Op{store.Create(store.Key(keyPrefix+key.ID), secret)}
	if _, exists := find[Account](c, accountKey(FirstAccount)); !exists {
		ops = append(ops, store.Create(accountKey(FirstAccount), account))
	}
	if err := c.apply(ctx, ops); err != nil {
		return lambda.AccessKey{}, false, fmt.Errorf("catalog: make the first account: %w", err)
	}
	return key, true, nil
}

// keyOf returns one access key of an account.
func (c *Catalog) keyOf(a lambda.AccountID) (lambda.AccessKey, bool) {
	for _, k := range c.keys(keyPrefix) {
		if found, ok := find[lambda.AccessKey](c, k); ok && found.Account == a {
			return *found, true
		}
	}
	return lambda.AccessKey{}, false
}

const (
	upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" // 32 letters, as in AWS's key ids
	lower = "abcdefghijklmnopqrstuvwxyz0189"   // with upper and two more: 64
)

// random returns n letters of an alphabet whose size divides 256, so that each is equally likely.
func random(n int, alphabet string) string {
	b := make([]byte, n)
	rand.Read(b) // never fails: it ends the process instead
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}
