package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"berth/lambda"
	"berth/store"
)

const (
	readLimit = 5 * time.Minute // for the whole catalog
	// maxDocument is above what package image takes for a manifest, in bytes: larger blobs name no others.
	maxDocument = 8 << 20
	digestHex   = 64 // digits of a SHA-256
)

// dropNamed leaves in old what nobody names: no record of the catalog, and no stored document that one of those names, as an image's
// manifest names its configuration and layers. Documents are looked for only while something is left.
func (c *Collector) dropNamed(ctx context.Context, old map[lambda.CodeDigest]bool, sizes map[lambda.CodeDigest]int64) error {
	found, err := c.inCatalog(ctx)
	if err != nil {
		return err
	}
	for d := range found {
		delete(old, d)
	}
	todo := make([]lambda.CodeDigest, 0, len(found))
	for d := range found {
		todo = append(todo, d)
	}
	for len(todo) > 0 && len(old) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		size, stored := sizes[d]
		if !stored || size > maxDocument || c.leaves[d] {
			continue
		}
		content, err := c.document(ctx, d)
		if err != nil {
			return err
		}
		if content == nil {
			c.leaves[d] = true
			if err := pace(ctx, len(c.leaves)); err != nil {
				return err
			}
			continue
		}
		eachDigest(content, func(next lambda.CodeDigest) {
			if !found[next] {
				found[next] = true
				delete(old, next)
				todo = append(todo, next)
			}
		})
	}
	for d := range c.leaves {
		if !found[d] {
			delete(c.leaves, d)
		}
	}
	return nil
}

// inCatalog returns the digests in all records, and their keys, of one moment.
func (c *Collector) inCatalog(ctx context.Context) (map[lambda.CodeDigest]bool, error) {
	ctx, stop := context.WithTimeout(ctx, readLimit)
	defer stop()
	found := map[lambda.CodeDigest]bool{}
	add := func(d lambda.CodeDigest) { found[d] = true }
	complete := false
	err := c.cfg.Catalog.Watch(ctx, "", func(e store.Entry) {
		if complete || e.Value == nil {
			return
		}
		eachDigest([]byte(e.Key), add)
		eachDigest(e.Value, add)
	}, func(store.Revision) { complete = true; stop() })
	if !complete {
		return nil, fmt.Errorf("reading the catalog: %w", err)
	}
	return found, nil
}

// document returns a blob's content if it is JSON, else nil: zips and layers begin otherwise.
func (c *Collector) document(ctx context.Context, d lambda.CodeDigest) ([]byte, error) {
	r, err := c.cfg.Blobs.Open(ctx, d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // deleted since the list
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content := make([]byte, 1)
	if _, err := io.ReadFull(r, content); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d, err)
	}
	if !bytes.ContainsAny(content, "{[ \t\r\n") {
		return nil, nil
	}
	rest, err := io.ReadAll(io.LimitReader(r, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d, err)
	}
	return append(content, rest...), nil
}

// eachDigest shows every run of 64 small hexadecimal digits, and both ends of longer ones: something may stand before or behind a digest.
func eachDigest(text []byte, each func(lambda.CodeDigest)) {
	run := 0
	end := func(at int) {
		if run >= digestHex {
			each(lambda.CodeDigest(text[at-digestHex : at]))
		}
		if run > digestHex {
			each(lambda.CodeDigest(text[at-run : at-run+digestHex]))
		}
		run = 0
	}
	for i, b := range text {
		if b >= '0' && b <= '9' || b >= 'a' && b <= 'f' {
			run++
		} else {
			end(i)
		}
	}
	end(len(text))
}
