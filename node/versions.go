package node

import (
	"context"

	"berth/apiserver"
	"berth/catalog"
	"berth/lambda"
)

// versions says in which version of its runtime a function runs. What the catalog leaves to the workers is what they have
// installed.
type versions struct {
	catalog *catalog.Catalog
	host    func(runtime string) (lambda.RuntimeVersionID, error)
}

// named is a version as environments and answers name it: the workers' own by its digest there. "" for a container image.
func (r versions) named(v *lambda.Version, id lambda.RuntimeVersionID) (lambda.RuntimeVersionID, error) {
	if id == lambda.HostRuntime {
		return r.host(v.Runtime)
	}
	return id, nil
}

// now is the version of calls that are not part of a trial.
func (r versions) now(v *lambda.Version) (lambda.RuntimeVersionID, error) {
	return r.named(v, r.catalog.RuntimeChoice(v).Version)
}

// allows reports whether calls of v may run in a version now.
func (r versions) allows(v *lambda.Version, has lambda.RuntimeVersionID) bool {
	choice := r.catalog.RuntimeChoice(v)
	if id, err := r.named(v, choice.Version); err == nil && id == has {
		return true
	}
	if choice.Candidate == "" || choice.Fraction <= 0 {
		return false
	}
	id, err := r.named(v, choice.Candidate)
	return err == nil && id == has
}

// suits reports whether a worker that has a version of v's runtime installed ("" for none) can run v. wanted is the one that
// stands for the workers' own in this cluster. What is an image every worker can have.
func (r versions) suits(v *lambda.Version, installed, wanted lambda.RuntimeVersionID) bool {
	choice := r.catalog.RuntimeChoice(v)
	for _, id := range []lambda.RuntimeVersionID{choice.Version, choice.Candidate} {
		if id == lambda.HostRuntime {
			id = wanted
		} else if _, _, released := r.catalog.RuntimeRelease(id); released || id == "" {
			continue
		}
		if installed != id || id == "" {
			return false
		}
	}
	return true
}

// preparer fetches what a version needs from registries, and tells the worker which version of the runtime it will start in.
type preparer struct {
	images   *images
	versions versions
	next     apiserver.Preparer
}

// Prepare implements apiserver.Preparer.
func (p *preparer) Prepare(ctx context.Context, v *lambda.Version) error {
	if v.Image != nil {
		if err := p.images.fetch(ctx, v); err != nil {
			return err
		}
		return p.next.Prepare(ctx, v)
	}
	ready := *v
	ready.Management.Version = p.versions.catalog.RuntimeChoice(v).Version
	return p.next.Prepare(ctx, &ready)
}

// hostRuntimes is what the API tells of the runtimes that the workers have installed.
type hostRuntimes struct {
	versions versions
	names    func() []string
}

// Names implements apiserver.Runtimes.
func (h *hostRuntimes) Names() []string { return h.names() }

// Installed implements apiserver.Runtimes.
func (h *hostRuntimes) Installed(runtime string) (lambda.RuntimeVersionID, bool) {
	id, err := h.versions.host(runtime)
	return id, err == nil
}
