package catalog

import (
	"context"

	"berth/lambda"
	"berth/store"
)

// maxTokenKeys bounds what TokenKeys returns: one key for each process that signs, and those of the past two days.
const maxTokenKeys = 10_000

// PublishTokenKey shows a public key of tenant tokens to all processes.
func (c *Catalog) PublishTokenKey(ctx context.Context, k lambda.TokenKey) error {
	raw, err := encode(&k)
	if err != nil {
		return err
	}
	return c.apply(ctx, []store.Op{store.Put(store.Key(tokenKeyPrefix+k.ID), raw)})
}

// RemoveTokenKey ends that. It is no error when somebody was faster.
func (c *Catalog) RemoveTokenKey(ctx context.Context, id string) error {
	return c.apply(ctx, deletions([]store.Key{store.Key(tokenKeyPrefix + id)}))
}

// TokenKeys returns the published keys, in the order of their ids.
func (c *Catalog) TokenKeys() []lambda.TokenKey {
	list, _ := page[lambda.TokenKey](c, tokenKeyPrefix, "", maxTokenKeys)
	keys := make([]lambda.TokenKey, 0, len(list))
	for _, k := range list {
		keys = append(keys, *k)
	}
	return keys
}
