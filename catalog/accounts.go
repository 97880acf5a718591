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

// Unreserved returns how much concurrency is left for functions without a reservation.
func (a Account) Unreserved() int { return a.Concurrency - a.Reserved }

// SetReserved sets a function's reserved concurrency, nil for none. Errors: ResourceNotFound, InvalidParameterValue when
// less than 100 would stay unreserved.
func (c *Catalog) SetReserved(ctx context.Context, id ID, n *int) error {
	missing := NotFound(c.arn(id, lambda.Latest)) // with $LATEST, as recorded
	_, err := c.change(ctx, id, missing, func(ch *change) error { return ch.reserve(c, n) })
	return err
}

// reserve stages the change of a reservation together with the account's sum, guarded by that record's own revision: so
// two functions can never reserve the same concurrency.
func (ch *change) reserve(c *Catalog, n *int) error {
	before, after := 0, 0
	if ch.Reserved != nil {
		before = *ch.Reserved
	}
	if n != nil {
		after = *n
	}
	ch.Reserved = n
	if before == after {
		return nil
	}
	acc, revision, err := get[Account](c, accountKey(ch.id.Account))
	if errors.Is(err, store.ErrNotFound) {
		acc, err = &Account{Concurrency: defaultConcurrency}, nil
	}
	if err != nil {
		return err
	}
	next := *acc
	next.Reserved += after - before
	if after > before && next.Unreserved() < minUnreserved {
		return invalid("Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [%d].", minUnreserved)
	}
	raw, err := encode(&next)
	if err != nil {
		return err
	}
	ch.stage(store.Op{Key: accountKey(ch.id.Account), Value: raw, Expect: revision})
	return nil
}

// release gives a function's reservation back to the account.
func (ch *change) release(c *Catalog) error { return ch.reserve(c, nil) }

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
