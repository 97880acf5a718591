package catalog

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"berth/lambda"
	"berth/policy"
	"berth/store"
)

// maxKeys is how many access keys an account may have: they are removed in one batch with it.
const maxKeys = 200

// Key is an access key with what it may do.
type Key struct {
	lambda.AccessKey
	Text    json.RawMessage // the identity policy as it was given; nil for a key without
	Policy  *policy.Policy  // Text, read
	Created time.Time       // zero for the first key of old servers
}

// accessKey is the stored form of Key.
type accessKey struct {
	Secret  string           `json:"secret"`
	Account lambda.AccountID `json:"account"`
	User    string           `json:"user,omitempty"`
	Policy  json.RawMessage  `json:"policy,omitempty"`
	Created time.Time        `json:"created,omitzero"`
}

// decodeKey reads a key's record. A policy that cannot be read makes the whole key unreadable, so that it opens nothing.
func decodeKey(k string, raw []byte) (*Key, error) {
	var stored accessKey
	if err := json.Unmarshal(raw, &stored); err != nil {
		return nil, fmt.Errorf("catalog: entry %q: not an access key", k) // the cause could quote the secret
	}
	key := &Key{
		AccessKey: lambda.AccessKey{ID: strings.TrimPrefix(k, keyPrefix), Secret: stored.Secret, Account: stored.Account, User: stored.User},
		Created:   stored.Created,
	}
	if stored.Policy != nil {
		var err error
		if key.Policy, err = policy.ParseIdentity(stored.Policy); err != nil {
			return nil, fmt.Errorf("catalog: entry %q: its policy: %w", k, err)
		}
		key.Text, key.Restricted = stored.Policy, true
	}
	return key, nil
}

// AccessKey finds an access key by its id.
func (c *Catalog) AccessKey(id string) (lambda.AccessKey, bool) {
	k, ok := c.Key(id)
	if !ok {
		return lambda.AccessKey{}, false
	}
	return k.AccessKey, true
}

// Key finds an access key with its policy.
func (c *Catalog) Key(id string) (*Key, bool) { return find[Key](c, store.Key(keyPrefix+id)) }

// Keys returns an account's access keys, the oldest first.
func (c *Catalog) Keys(a lambda.AccountID) []*Key {
	var list []*Key
	for _, k := range c.keys(keyPrefix) {
		if key, ok := find[Key](c, k); ok && key.Account == a {
			list = append(list, key)
		}
	}
	slices.SortFunc(list, func(x, y *Key) int { return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.ID, y.ID)) })
	return list
}

// KeyCounts returns how many access keys each account has.
func (c *Catalog) KeyCounts() map[lambda.AccountID]int {
	counts := make(map[lambda.AccountID]int)
	for _, k := range c.keys(keyPrefix) {
		if key, ok := find[Key](c, k); ok {
			counts[key.Account]++
		}
	}
	return counts
}

// CreateKey makes an access key of an account that exists, with a random id and secret. user "" is the account's root;
// text "" is no policy: the key may do everything in its account. Errors: ResourceNotFound, InvalidParameterValue,
// MalformedPolicy.
func (c *Catalog) CreateKey(ctx context.Context, a lambda.AccountID, user, text string) (*Key, error) {
	if !validUser(user) {
		return nil, invalid("The name of a user has at most %d letters, digits and characters of +=,.@_-; got %.80q.", maxUser, user)
	}
	stored := accessKey{Secret: random(40, upper+lower+"+/"), Account: a, User: user, Created: time.Now().UTC()}
	if text != "" {
		if _, err := policy.ParseIdentity([]byte(text)); err != nil {
			return nil, lambda.Errorf(lambda.MalformedPolicy, "%v", err)
		}
		stored.Policy = json.RawMessage(text)
	}
	raw, err := encode(&stored)
	if err != nil {
		return nil, err
	}
	id := "AKIA" + random(16, upper)
	err = c.underAccount(ctx, a, func(lock store.Op) ([]store.Op, error) {
		if n := len(c.Keys(a)); n >= maxKeys {
			return nil, invalid("Account %s has %d access keys already, which is the most: delete one first.", a, n)
		}
		return []store.Op{lock, store.Create(store.Key(keyPrefix+id), raw)}, nil
	})
	if err != nil {
		return nil, err
	}
	return decodeKey(keyPrefix+id, raw)
}

// DeleteKey removes an access key. Errors: ResourceNotFound; ResourceConflict for the last key with which the first account
// can be managed.
func (c *Catalog) DeleteKey(ctx context.Context, id string) error {
	k, ok := c.Key(id)
	if !ok {
		return keyNotFound(id)
	}
	return c.underAccount(ctx, k.Account, func(lock store.Op) ([]store.Op, error) {
		if _, other := c.rootKey(k.Account, id); k.Account == FirstAccount && !other {
			return nil, lambda.Errorf(lambda.ResourceConflict,
				"Key %s is the last that may do everything in account %s, which manages this server: make another first.", id, k.Account)
		}
		return []store.Op{lock, store.Delete(store.Key(keyPrefix+id), store.Any)}, nil
	})
}

func keyNotFound(id string) error {
	return lambda.Errorf(lambda.ResourceNotFound, "There is no access key %.80q.", id)
}

// maxUser bounds a user's name, in characters (IAM quotas).
const maxUser = 64

func validUser(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+=,.@_-"
	return len(name) <= maxUser && strings.Trim(name, letters) == ""
}

// rootKey returns the oldest key of an account's root without a policy, other than that with the id besides.
func (c *Catalog) rootKey(a lambda.AccountID, besides string) (*Key, bool) {
	for _, k := range c.Keys(a) {
		if k.User == "" && !k.Restricted && k.ID != besides {
			return k, true
		}
	}
	return nil, false
}

// FirstKey returns an access key of FirstAccount's root. A catalog without one gets the account and a random key; created
// tells so. Call it when Ready.
func (c *Catalog) FirstKey(ctx context.Context) (key lambda.AccessKey, created bool, err error) {
	if k, ok := c.rootKey(FirstAccount, ""); ok {
		return k.AccessKey, false, nil
	}
	stored := accessKey{Secret: random(40, upper+lower+"+/"), Account: FirstAccount, Created: time.Now().UTC()}
	secret, err := encode(&stored)
	if err != nil {
		return lambda.AccessKey{}, false, err
	}
	account, err := encode(&Account{Concurrency: defaultConcurrency})
	if err != nil {
		return lambda.AccessKey{}, false, err
	}
	key = lambda.AccessKey{ID: "AKIA" + random(16, upper), Secret: stored.Secret, Account: FirstAccount}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	ops := []store.Op{store.Create(store.Key(keyPrefix+key.ID), secret)}
	if _, _, err := get[Account](c, accountKey(FirstAccount)); errors.Is(err, store.ErrNotFound) {
		ops = append(ops, store.Create(accountKey(FirstAccount), account))
	}
	if err := c.apply(ctx, ops); err != nil {
		return lambda.AccessKey{}, false, fmt.Errorf("catalog: make the first account: %w", err)
	}
	return key, true, nil
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
