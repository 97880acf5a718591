package catalog

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"strconv"
	"strings"

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

// AccountEntry is an account in a list.
type AccountEntry struct {
	ID lambda.AccountID
	Account
}

// Accounts returns the accounts that have been made, or have had a limit set, in the order of their numbers.
func (c *Catalog) Accounts() []AccountEntry {
	var list []AccountEntry
	for _, k := range c.keys(accountPrefix) {
		if acc, ok := find[Account](c, k); ok {
			list = append(list, AccountEntry{lambda.AccountID(strings.TrimPrefix(string(k), accountPrefix)), *acc})
		}
	}
	return list
}

// CreateAccount makes an account; "" takes a free random number. Errors: InvalidParameterValue, ResourceConflict.
func (c *Catalog) CreateAccount(ctx context.Context, a lambda.AccountID) (lambda.AccountID, error) {
	chosen := a != ""
	if chosen && (len(a) != accountDigits || strings.Trim(string(a), digits) != "") {
		return "", invalid("The number of an account has %d digits; got %.80q.", accountDigits, a)
	}
	raw, err := encode(&Account{Concurrency: defaultConcurrency})
	if err != nil {
		return "", err
	}
	taken := lambda.Errorf(lambda.ResourceConflict, "Account %s exists already.", a)
	err = c.retry(ctx, func(ctx context.Context) error {
		if !chosen {
			a = randomAccount()
		}
		err := c.apply(ctx, []store.Op{store.Create(accountKey(a), raw)})
		if chosen && errors.Is(err, store.ErrConflict) {
			return taken
		}
		return err
	}, accountKey(FirstAccount))
	return a, err
}

const (
	accountDigits = 12
	digits        = "0123456789"
)

// randomAccount returns twelve digits, the first of them not 0: those are for people to choose.
func randomAccount() lambda.AccountID {
	n, _ := rand.Int(rand.Reader, big.NewInt(900_000_000_000)) // never fails: it ends the process instead
	return lambda.AccountID(strconv.FormatInt(100_000_000_000+n.Int64(), 10))
}

// DeleteAccount removes an account that owns nothing any more, with its access keys. Errors: ResourceNotFound;
// ResourceConflict while it owns something, and for FirstAccount.
func (c *Catalog) DeleteAccount(ctx context.Context, a lambda.AccountID) error {
	if a == FirstAccount {
		return lambda.Errorf(lambda.ResourceConflict, "Account %s manages this server and stays.", a)
	}
	return c.underAccount(ctx, a, func(lock store.Op) ([]store.Op, error) {
		for _, kind := range []struct{ prefix, name string }{
			{functionPrefix, "functions"}, {layerVersionPrefix, "layers"}, {schedulePrefix, "schedules"},
			{mappingPrefix, "event source mappings"}, {signingPrefix, "code signing configurations"},
		} {
			if n := len(c.keys(kind.prefix + string(a) + "/")); n > 0 {
				return nil, lambda.Errorf(lambda.ResourceConflict, "Account %s has %s (%d): delete them first.", a, kind.name, n)
			}
		}
		ops := []store.Op{store.Delete(lock.Key, lock.Expect)}
		for _, k := range c.Keys(a) {
			ops = append(ops, store.Delete(store.Key(keyPrefix+k.ID), store.Any))
		}
		return ops, nil
	})
}

// underAccount writes what goes with an account's record: edit gets the write that holds the record to what it is, and
// returns it, or one in its place, among others. Error: ResourceNotFound for an account without a record.
func (c *Catalog) underAccount(ctx context.Context, a lambda.AccountID, edit func(lock store.Op) ([]store.Op, error)) error {
	return c.retry(ctx, func(ctx context.Context) error {
		acc, revision, err := get[Account](c, accountKey(a))
		if errors.Is(err, store.ErrNotFound) {
			return lambda.Errorf(lambda.ResourceNotFound, "There is no account %.80q.", a)
		}
		if err != nil {
			return err
		}
		raw, err := encode(acc)
		if err != nil {
			return err
		}
		ops, err := edit(store.Update(accountKey(a), raw, revision))
		if err != nil {
			return err
		}
		return c.apply(ctx, ops)
	}, accountKey(a))
}
