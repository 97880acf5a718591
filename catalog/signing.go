package catalog

import (
	"context"
	"errors"
	"maps"
	"strings"
	"time"

	"berth/lambda"
	"berth/store"
)

// CodeSigning is a code signing configuration. Berth keeps it; it knows no signatures, so no code counts as signed.
type CodeSigning struct {
	ID          string            `json:"id"`         // csc- and 17 letters and digits
	Publishers  []string          `json:"publishers"` // ARNs of signing profile versions
	Policy      string            `json:"policy"`     // Warn, Enforce
	Description string            `json:"description,omitempty"`
	Modified    time.Time         `json:"modified"`
	Tags        map[string]string `json:"tags,omitempty"`
}

// Enforces reports whether code without a trusted signature must be refused.
func (s *CodeSigning) Enforces() bool { return s.Policy == "Enforce" }

const (
	signingLetters = "abcdefghijklmnopqrstuvwxyz012345" // 32 of those that an ID may have
	signingMarker  = ":code-signing-config:"
)

func signingKey(a lambda.AccountID, id string) store.Key {
	return store.Key(signingPrefix + string(a) + "/" + id)
}

// SigningARN builds the ARN of a code signing configuration.
func (c *Catalog) SigningARN(a lambda.AccountID, id string) string {
	return "arn:aws:lambda:" + c.region + ":" + string(a) + signingMarker + id
}

// SigningByARN finds a code signing configuration of an account.
func (c *Catalog) SigningByARN(a lambda.AccountID, arn string) (*CodeSigning, bool) {
	_, id, found := strings.Cut(arn, signingMarker)
	if !found || c.SigningARN(a, id) != arn {
		return nil, false
	}
	return find[CodeSigning](c, signingKey(a, id))
}

// Signings returns up to n code signing configurations of an account by ID, from the one after the ID after on. next is the
// value of after for the next page, "" at the end.
func (c *Catalog) Signings(a lambda.AccountID, after string, n int) (list []*CodeSigning, next string) {
	list, more := page[CodeSigning](c, signingPrefix+string(a)+"/", after, n)
	if more && len(list) > 0 {
		next = list[len(list)-1].ID
	}
	return list, next
}

// CreateSigning stores a new code signing configuration.
func (c *Catalog) CreateSigning(ctx context.Context, a lambda.AccountID, s CodeSigning) (*CodeSigning, error) {
	s.ID, s.Modified = "csc-"+random(17, signingLetters), time.Now()
	raw, err := encode(&s)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeDeadline)
	defer cancel()
	return &s, c.apply(ctx, []store.Op{store.Create(signingKey(a, s.ID), raw)})
}

// UpdateSigning changes a code signing configuration; edit may run several times. It returns missing when there is none.
func (c *Catalog) UpdateSigning(ctx context.Context, a lambda.AccountID, id string, missing error, edit func(*CodeSigning) error) (*CodeSigning, error) {
	key := signingKey(a, id)
	var next CodeSigning
	err := c.retry(ctx, func(ctx context.Context) error {
		old, revision, err := get[CodeSigning](c, key)
		if errors.Is(err, store.ErrNotFound) {
			return missing
		}
		if err != nil {
			return err
		}
		next = *old
		next.Tags = maps.Clone(old.Tags)
		if err := edit(&next); err != nil {
			return err
		}
		raw, err := encode(&next)
		if err != nil {
			return err
		}
		return c.apply(ctx, []store.Op{store.Update(key, raw, revision)})
	}, key)
	return &next, err
}

// DeleteSigning removes a code signing configuration. Errors: missing when there is none, ResourceConflict while functions
// have it.
func (c *Catalog) DeleteSigning(ctx context.Context, a lambda.AccountID, id string, missing error) error {
	key := signingKey(a, id)
	return c.retry(ctx, func(ctx context.Context) error {
		_, revision, err := get[CodeSigning](c, key)
		if errors.Is(err, store.ErrNotFound) {
			return missing
		}
		if err != nil {
			return err
		}
		// SetSigning writes the configuration too: its revision proves that this list is whole.
		if users, _ := c.SignedFunctions(a, id, "", 1); len(users) > 0 {
			return lambda.Errorf(lambda.ResourceConflict, "The code signing configuration %s is in use by function %s. Detach it from all functions first.",
				c.SigningARN(a, id), users[0].Latest.Function)
		}
		return c.apply(ctx, []store.Op{store.Delete(key, revision)})
	}, key)
}

// SignedFunctions returns up to n functions that have a code signing configuration, by name, from the one after the name
// after on; next is the value of after for the next page, "" at the end. It visits all functions of the account.
func (c *Catalog) SignedFunctions(a lambda.AccountID, id, after string, n int) (list []*Function, next string) {
	const stride = 1000
	for {
		found, more := c.Functions(a, after, stride)
		for _, f := range found {
			if f.Signing != id {
				continue
			}
			if len(list) == n {
				return list, list[n-1].Latest.Function
			}
			list = append(list, f)
		}
		if after = more; more == "" {
			return list, ""
		}
	}
}

// SetSigning gives a function a code signing configuration, "" for none. Errors: ResourceNotFound for the function, missing
// for the configuration.
func (c *Catalog) SetSigning(ctx context.Context, id ID, signing string, missing error) error {
	_, err := c.change(ctx, id, NotFound(c.arn(id, "")), func(ch *change) error {
		ch.Signing = signing
		return c.useSigning(ch, signing, missing)
	})
	return err
}

// useSigning stages the write that keeps a configuration from being deleted meanwhile.
func (c *Catalog) useSigning(ch *change, signing string, missing error) error {
	if signing == "" {
		return nil
	}
	s, revision, err := get[CodeSigning](c, signingKey(ch.id.Account, signing))
	if errors.Is(err, store.ErrNotFound) {
		return missing
	}
	if err != nil {
		return err
	}
	raw, err := encode(s)
	if err != nil {
		return err
	}
	ch.stage(store.Update(signingKey(ch.id.Account, signing), raw, revision))
	return nil
}
