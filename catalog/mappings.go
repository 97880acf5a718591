package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/store"
)

// Mapping is an event source mapping: from what a function gets events. It outlives its function, as in Lambda.
type Mapping struct {
	UUID     string            `json:"uuid"`
	Function string            `json:"function"` // ARN, with a qualifier if the caller named one
	Sources  []string          `json:"sources"`  // the source's ARN, or the servers of a self-managed one
	Topics   []string          `json:"topics,omitempty"`
	Enabled  bool              `json:"enabled"`
	Modified time.Time         `json:"modified"`
	Tags     map[string]string `json:"tags,omitempty"`
	// Problem is why nothing is read at the moment; "" when something is, or nothing can be said.
	Problem string `json:"problem,omitempty"`
	// Settings is all else, as the API's model spells EventSourceMappingConfiguration.
	Settings json.RawMessage `json:"settings"`
}

func mappingKey(a lambda.AccountID, id string) store.Key {
	return store.Key(mappingPrefix + string(a) + "/" + strings.ToLower(id))
}

// mappingLock is the key whose revision guards all mappings of an account: so two of the same source and function can not
// be made at the same moment.
func mappingLock(a lambda.AccountID) store.Key { return store.Key(mappingLockPrefix + string(a)) }

// MappingARN builds the ARN of an event source mapping.
func (c *Catalog) MappingARN(a lambda.AccountID, id string) string {
	return "arn:aws:lambda:" + c.region + ":" + string(a) + ":event-source-mapping:" + id
}

// Mapping returns an event source mapping.
func (c *Catalog) Mapping(a lambda.AccountID, id string) (*Mapping, bool) {
	if len(id) != 36 || uuid.Validate(id) != nil { // the other forms of a UUID are none of a mapping
		return nil, false
	}
	return find[Mapping](c, mappingKey(a, id))
}

// Mappings returns up to n passing mappings of an account in the order of their UUIDs, from the one after the UUID after on.
// next is the value of after for the next page, "" at the end.
func (c *Catalog) Mappings(a lambda.AccountID, after string, n int, pass func(*Mapping) bool) (list []*Mapping, next string) {
	prefix := mappingPrefix + string(a) + "/"
	var keys []store.Key
	c.each(prefix, after, func(k store.Key, _ *record) bool {
		keys = append(keys, k)
		return true
	})
	for _, k := range keys {
		m, ok := find[Mapping](c, k)
		if !ok || !pass(m) {
			continue
		}
		if len(list) == n {
			return list, list[n-1].UUID
		}
		list = append(list, m)
	}
	return list, ""
}

// EveryMapping shows the mappings of all accounts.
func (c *Catalog) EveryMapping(each func(lambda.AccountID, *Mapping)) {
	var keys []store.Key
	c.each(mappingPrefix, "", func(k store.Key, _ *record) bool {
		keys = append(keys, k)
		return true
	})
	for _, k := range keys {
		account, _, _ := strings.Cut(strings.TrimPrefix(string(k), mappingPrefix), "/")
		if m, ok := find[Mapping](c, k); ok {
			each(lambda.AccountID(account), m)
		}
	}
}

// NoteMapping keeps why a mapping's source cannot be read, "" when it can be. A mapping that is gone is none to note about.
func (c *Catalog) NoteMapping(ctx context.Context, a lambda.AccountID, id, problem string) error {
	_, err := c.UpdateMapping(ctx, a, id, errGone, func(m *Mapping) error {
		m.Problem = problem
		return nil
	})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

var errGone = errors.New("gone")

// CreateMapping stores a new mapping. taken makes the error for an older one that feeds the same function from the same
// source (and one of the same topics).
func (c *Catalog) CreateMapping(ctx context.Context, a lambda.AccountID, m Mapping, taken func(*Mapping) error) (*Mapping, error) {
	m.Modified = time.Now()
	err := c.changeMappings(ctx, a, func() (store.Op, error) {
		same, _ := c.Mappings(a, "", 1, func(old *Mapping) bool { return old.overlaps(&m) })
		if len(same) > 0 {
			return store.Op{}, taken(same[0])
		}
		raw, err := encode(&m)
		return store.Create(mappingKey(a, m.UUID), raw), err
	})
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// overlaps reports whether two mappings would feed one function the same events.
func (m *Mapping) overlaps(other *Mapping) bool {
	return m.Function == other.Function && intersect(m.Sources, other.Sources) &&
		(len(m.Topics) == 0 || intersect(m.Topics, other.Topics))
}

func intersect(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// UpdateMapping changes a mapping; edit may run several times. It returns missing when there is none.
func (c *Catalog) UpdateMapping(ctx context.Context, a lambda.AccountID, id string, missing error, edit func(*Mapping) error) (*Mapping, error) {
	var next Mapping
	err := c.changeMappings(ctx, a, func() (store.Op, error) {
		old, ok := c.Mapping(a, id)
		if !ok {
			return store.Op{}, missing
		}
		next = *old
		next.Tags = maps.Clone(old.Tags)
		if err := edit(&next); err != nil {
			return store.Op{}, err
		}
		raw, err := encode(&next)
		return store.Put(mappingKey(a, id), raw), err
	})
	return &next, err
}

// DeleteMapping removes a mapping and returns it as it was, or missing.
func (c *Catalog) DeleteMapping(ctx context.Context, a lambda.AccountID, id string, missing error) (*Mapping, error) {
	var old *Mapping
	err := c.changeMappings(ctx, a, func() (store.Op, error) {
		var ok bool
		if old, ok = c.Mapping(a, id); !ok {
			return store.Op{}, missing
		}
		return store.Delete(mappingKey(a, id), store.Any), nil
	})
	return old, err
}

// changeMappings writes what edit returns under the account's lock of mappings. edit may run several times.
func (c *Catalog) changeMappings(ctx context.Context, a lambda.AccountID, edit func() (store.Op, error)) error {
	lock := mappingLock(a)
	return c.retry(ctx, func(ctx context.Context) error {
		_, revision, ok := c.mirror.Get(lock)
		if !ok {
			revision = store.Absent
		}
		op, err := edit()
		if err != nil {
			return err
		}
		return c.apply(ctx, []store.Op{op, store.Update(lock, []byte("{}"), revision)})
	}, lock)
}
