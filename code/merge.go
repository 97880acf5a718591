package code

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path"
	"slices"
	"strings"

	"berth/lambda"
)

// Merged returns the tree of several zips unpacked over one another: of files of one name the last zip's is there, and where
// one zip has a file and another a directory, the last zip decides. The tree is cached under a name made of all digests in
// their order. Errors and obligations are those of Tree; more than lambda.MaxUnpacked bytes are refused as in one zip.
func (c *Cache) Merged(ctx context.Context, zips []lambda.CodeDigest) (*Tree, error) {
	if len(zips) == 1 {
		return c.Tree(ctx, zips[0])
	}
	sum := sha256.New()
	sum.Write([]byte("merged tree\n")) // no zip begins so: a merged tree never has a zip's name
	for _, d := range zips {
		sum.Write([]byte(string(d) + "\n"))
	}
	return c.tree(ctx, lambda.CodeDigest(hex.EncodeToString(sum.Sum(nil))), slices.Clone(zips), nil)
}

// plan fetches zips and plans the tree of them all; done gives back what the plan reads from.
func (c *Cache) plan(ctx context.Context, zips []lambda.CodeDigest) (merged *plan, done func(), err error) {
	var open []func()
	done = func() {
		for _, f := range open {
			f()
		}
	}
	plans := make([]*plan, 0, len(zips))
	for _, digest := range zips {
		zip, size, give, err := c.fetch(ctx, digest)
		if err != nil {
			done()
			return nil, nil, err
		}
		open = append(open, give)
		p, err := newPlan(zip, size)
		if err != nil {
			done()
			return nil, nil, err
		}
		plans = append(plans, p)
	}
	if merged, err = merge(plans); err != nil {
		done()
		return nil, nil, err
	}
	return merged, done, nil
}

// merge puts plans over one another. It goes from the last to the first and leaves out what is taken, so nothing is ever
// removed from the result. What a single plan guarantees holds for the result too: every parent is a real directory, so a
// link that climbs real directories only still does.
func merge(plans []*plan) (*plan, error) {
	if len(plans) == 1 {
		return plans[0], nil
	}
	b := builder{taken: make(map[string]bool)}
	for _, p := range slices.Backward(plans) {
		for _, dir := range p.dirs {
			if b.free(dir) {
				if err := b.addDir(dir); err != nil {
					return nil, err
				}
			}
		}
		for _, n := range p.files {
			if _, taken := b.taken[n.name()]; taken || !b.free(n.dir) {
				continue
			}
			if err := b.addNode(n); err != nil {
				return nil, err
			}
		}
	}
	return b.finish(), nil
}

// free reports whether name can be a directory: neither it nor one above it is a file.
func (b *builder) free(name string) bool {
	for ; name != "."; name = path.Dir(name) {
		if isDir, taken := b.taken[name]; taken {
			return isDir // what is above a directory is one
		}
	}
	return true
}

// addNode adds a node of another plan.
func (b *builder) addNode(n node) error {
	size := int64(n.file.UncompressedSize64)
	if size >= lambda.MaxUnpacked-b.plan.bytes {
		return lambda.Errorf(lambda.InvalidParameterValue, textSize, lambda.MaxUnpacked)
	}
	b.plan.bytes += size
	if err := b.addDir(n.dir); err != nil {
		return err
	}
	b.taken[n.name()] = false
	b.plan.files = append(b.plan.files, n)
	return b.count()
}

// finish brings a plan into the order in which it is written.
func (b *builder) finish() *plan {
	slices.SortFunc(b.plan.files, func(x, y node) int {
		if c := strings.Compare(x.dir, y.dir); c != 0 {
			return c
		}
		return strings.Compare(x.base, y.base)
	})
	slices.Sort(b.plan.dirs) // a parent sorts before what is in it
	return &b.plan
}
