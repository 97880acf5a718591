package catalog

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/store"
)

// layerHead is the lock of a layer's versions. It stays when all of them have been deleted: a number is never given twice.
type layerHead struct {
	Next int64 `json:"next"` // number of the next version, from 1
}

// LayerVersion is one version of a layer. It is immutable.
type LayerVersion struct {
	// CodeBytes is the size of the zip. It stays the first member, like Function.CodeBytes.
	CodeBytes int64 `json:"codeBytes"`

	Layer         string            `json:"layer"` // name
	Number        int64             `json:"number"`
	Code          lambda.CodeDigest `json:"code"`
	CodeSHA256    string            `json:"sha256"` // base64
	Unpacked      int64             `json:"unpacked"`
	Description   string            `json:"description,omitempty"`
	License       string            `json:"license,omitempty"`
	Runtimes      []string          `json:"runtimes"`      // compatible ones; nil when none were said
	Architectures []string          `json:"architectures"` // likewise
	Created       time.Time         `json:"created"`
}

// Fits reports whether a layer says that it suits a runtime and an architecture; "" asks for any.
func (v *LayerVersion) Fits(runtime, architecture string) bool {
	return (runtime == "" || slices.Contains(v.Runtimes, runtime)) &&
		(architecture == "" || slices.Contains(v.Architectures, architecture))
}

// LayerID names a layer within the catalog.
type LayerID ID

func (id LayerID) head() store.Key {
	return store.Key(layerPrefix + string(id.Account) + "/" + id.Name)
}

func (id LayerID) versions() string { return ID(id).under(layerVersionPrefix) }

func (id LayerID) version(n int64) store.Key { return store.Key(id.versions() + layerNumber(n)) }

func (id LayerID) policy(n int64) store.Key {
	return store.Key(ID(id).under(layerPolicyPrefix) + layerNumber(n))
}

func layerNumber(n int64) string { return sortable(strconv.FormatInt(n, 10)) }

// maxLayerNumber is the largest number that sorts; no layer gets there.
const maxLayerNumber = 9_999_999_999

// LayerARN builds the ARN of a layer.
func (c *Catalog) LayerARN(id LayerID) string {
	return "arn:aws:lambda:" + c.region + ":" + string(id.Account) + ":layer:" + id.Name
}

// LayerVersionARN builds the ARN of a layer's version.
func (c *Catalog) LayerVersionARN(id LayerID, n int64) string {
	return c.LayerARN(id) + ":" + strconv.FormatInt(n, 10)
}

// LayerVersion returns a version of a layer.
func (c *Catalog) LayerVersion(id LayerID, n int64) (*LayerVersion, bool) {
	if n < 1 || n > maxLayerNumber {
		return nil, false
	}
	return find[LayerVersion](c, id.version(n))
}

// LayerVersions returns the versions of a layer that pass the filter, the newest first, at most n, from the one below the
// number before (0 is the beginning). next is the value of before for the next page, 0 at the end.
func (c *Catalog) LayerVersions(id LayerID, before int64, n int, pass func(*LayerVersion) bool) (list []*LayerVersion, next int64) {
	for _, k := range slices.Backward(c.keys(id.versions())) {
		v, ok := find[LayerVersion](c, k)
		if !ok || before > 0 && v.Number >= before || !pass(v) {
			continue
		}
		if len(list) == n {
			return list, list[n-1].Number
		}
		list = append(list, v)
	}
	return list, 0
}

// Layers returns the newest passing version of each of an account's layers by name, at most n, from the one after the name
// after on. next is the value of after for the next page, "" at the end.
func (c *Catalog) Layers(a lambda.AccountID, after string, n int, pass func(*LayerVersion) bool) (list []*LayerVersion, next string) {
	prefix := layerPrefix + string(a) + "/"
	var names []string
	c.each(prefix, after, func(k store.Key, _ *record) bool {
		names = append(names, string(k)[len(prefix):])
		return true
	})
	for _, name := range names {
		newest, _ := c.LayerVersions(LayerID{a, name}, 0, 1, pass)
		if len(newest) == 0 {
			continue
		}
		if len(list) == n {
			return list, list[n-1].Layer
		}
		list = append(list, newest[0])
	}
	return list, ""
}

// PublishLayer stores a new version of a layer under the next number, which it returns in the version.
func (c *Catalog) PublishLayer(ctx context.Context, id LayerID, v LayerVersion) (*LayerVersion, error) {
	v.Layer, v.Created = id.Name, time.Now()
	err := c.changeLayer(ctx, id, func(h *layerHead) ([]store.Op, error) {
		h.Next = max(h.Next, 1)
		v.Number = h.Next
		h.Next++
		raw, err := encode(&v)
		return []store.Op{store.Put(id.version(v.Number), raw)}, err
	})
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// DeleteLayerVersion removes a version of a layer with its policy; functions that use it keep it. One that is not there is
// not an error.
func (c *Catalog) DeleteLayerVersion(ctx context.Context, id LayerID, n int64) error {
	err := c.changeLayer(ctx, id, func(*layerHead) ([]store.Op, error) {
		if _, ok := c.LayerVersion(id, n); !ok {
			return nil, errUnchanged
		}
		return []store.Op{store.Delete(id.version(n), store.Any), store.Delete(id.policy(n), store.Any)}, nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	return err
}

// changeLayer writes what edit returns together with the layer's head, whose revision guards it. edit may run several
// times.
func (c *Catalog) changeLayer(ctx context.Context, id LayerID, edit func(*layerHead) ([]store.Op, error)) error {
	attempt := func(ctx context.Context) error {
		var head layerHead
		old, revision, err := get[layerHead](c, id.head())
		switch {
		case errors.Is(err, store.ErrNotFound):
			revision = store.Absent
		case err != nil:
			return err
		default:
			head = *old
		}
		ops, err := edit(&head)
		if err != nil {
			return err
		}
		raw, err := encode(&head)
		if err != nil {
			return err
		}
		return c.apply(ctx, append(ops, store.Update(id.head(), raw, revision)))
	}
	return c.retry(ctx, attempt, id.head())
}

// LayerPolicy returns the policy of a layer's version. Errors: ResourceNotFound for the version or its policy.
func (c *Catalog) LayerPolicy(id LayerID, n int64) (*Policy, error) {
	if _, ok := c.LayerVersion(id, n); !ok {
		return nil, c.layerNotFound(id, n)
	}
	p, ok := find[Policy](c, id.policy(n))
	if !ok {
		return nil, lambda.Errorf(lambda.ResourceNotFound, "No policy is associated with the given resource.")
	}
	return p, nil
}

func (c *Catalog) layerNotFound(id LayerID, n int64) error {
	return lambda.Errorf(lambda.ResourceNotFound, "Layer version %s does not exist.", c.LayerVersionARN(id, n))
}

func wrongLayerRevision() error {
	return lambda.Errorf(lambda.PreconditionFailed,
		"The Revision Id provided does not match the latest Revision Id. Call the GetLayerPolicy API to retrieve the latest Revision Id")
}

// AddLayerStatement adds a statement to the policy of a layer's version, and returns the policy. revisionID "" matches any.
// Errors: ResourceNotFound, PreconditionFailed, ResourceConflict for a statement id in use, PolicyLengthExceeded.
func (c *Catalog) AddLayerStatement(ctx context.Context, id LayerID, n int64, revisionID string, s Statement) (*Policy, error) {
	var next Policy
	err := c.changeLayer(ctx, id, func(*layerHead) ([]store.Op, error) {
		if _, ok := c.LayerVersion(id, n); !ok {
			return nil, c.layerNotFound(id, n)
		}
		next = Policy{RevisionID: uuid.NewString()}
		if p, ok := find[Policy](c, id.policy(n)); ok {
			if revisionID != "" && revisionID != p.RevisionID {
				return nil, wrongLayerRevision()
			}
			next.Statements = slices.Clone(p.Statements)
		} else if revisionID != "" {
			return nil, wrongLayerRevision()
		}
		if err := next.add(s); err != nil {
			return nil, err
		}
		raw, err := encode(&next)
		return []store.Op{store.Put(id.policy(n), raw)}, err
	})
	if err != nil {
		return nil, err
	}
	return &next, nil
}

// RemoveLayerStatement removes a statement from the policy of a layer's version. Errors: ResourceNotFound,
// PreconditionFailed.
func (c *Catalog) RemoveLayerStatement(ctx context.Context, id LayerID, n int64, revisionID, sid string) error {
	return c.changeLayer(ctx, id, func(*layerHead) ([]store.Op, error) {
		p, err := c.LayerPolicy(id, n)
		if err != nil {
			return nil, err
		}
		i := p.index(sid)
		if i < 0 {
			return nil, lambda.Errorf(lambda.ResourceNotFound, "Statement %s is not found in resource policy.", sid)
		}
		if revisionID != "" && revisionID != p.RevisionID {
			return nil, wrongLayerRevision()
		}
		if len(p.Statements) == 1 {
			return []store.Op{store.Delete(id.policy(n), store.Any)}, nil
		}
		next := Policy{RevisionID: uuid.NewString(), Statements: slices.Delete(slices.Clone(p.Statements), i, i+1)}
		raw, err := encode(&next)
		return []store.Op{store.Put(id.policy(n), raw)}, err
	})
}
