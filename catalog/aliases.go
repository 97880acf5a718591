package catalog

import (
	"context"
	"maps"

	"github.com/google/uuid"

	"berth/lambda"
	"berth/store"
)

// Alias returns an alias.
func (c *Catalog) Alias(id ID, name string) (*Alias, bool) {
	if _, ok := c.Function(id); !ok {
		return nil, false
	}
	return find[Alias](c, id.alias(name))
}

func (c *Catalog) arn(id ID, qualifier string) string {
	arn := lambda.FunctionARN(c.region, id.Account, id.Name)
	if qualifier != "" {
		arn += ":" + qualifier
	}
	return arn
}

// CreateAlias stores a new alias. Errors: ResourceNotFound, ResourceConflict, InvalidParameterValue.
func (c *Catalog) CreateAlias(ctx context.Context, id ID, a Alias) (*Alias, error) {
	a.RevisionID = uuid.NewString()
	_, err := c.change(ctx, id, NotFound(c.arn(id, a.Version)), func(ch *change) error {
		if err := c.checkAlias(id, &a); err != nil {
			return err
		}
		if _, taken := find[Alias](c, id.alias(a.Name)); taken {
			return lambda.Errorf(lambda.ResourceConflict, "Alias already exists: %s", c.arn(id, a.Name))
		}
		return ch.put(id.alias(a.Name), &a)
	})
	if err != nil {
		return nil, err
	}
	return &a, nil
}

// AliasEdit says what to change of an alias: nil members stay.
type AliasEdit struct {
	Version     *string
	Description *string
	Weights     *map[string]float64
}

// UpdateAlias changes an alias; revisionID "" matches any. Errors: ResourceNotFound, PreconditionFailed,
// InvalidParameterValue.
func (c *Catalog) UpdateAlias(ctx context.Context, id ID, name, revisionID string, edit AliasEdit) (*Alias, error) {
	var next Alias
	_, err := c.change(ctx, id, NotFound(c.arn(id, "")), func(ch *change) error {
		a, ok := find[Alias](c, id.alias(name))
		if !ok {
			return aliasNotFound(c.arn(id, name))
		}
		if revisionID != "" && revisionID != a.RevisionID {
			return wrongRevision()
		}
		next = *a
		next.RevisionID = uuid.NewString()
		if edit.Version != nil {
			next.Version = *edit.Version
		}
		if edit.Description != nil {
			next.Description = *edit.Description
		}
		if edit.Weights != nil {
			next.Weights = maps.Clone(*edit.Weights)
		}
		if err := c.checkAlias(id, &next); err != nil {
			return err
		}
		if err := c.checkProvisionedMove(id, &next); err != nil {
			return err
		}
		return ch.put(id.alias(name), &next)
	})
	if err != nil {
		return nil, err
	}
	return &next, nil
}

// checkAlias checks that the versions of an alias exist and that its weights make sense.
func (c *Catalog) checkAlias(id ID, a *Alias) error {
	if _, ok := c.Version(id, a.Version); !ok {
		return NotFound(c.arn(id, a.Version))
	}
	if len(a.Weights) > 1 {
		return invalid("Number of items in AdditionalVersionWeights cannot be greater than 1")
	}
	for number := range a.Weights {
		switch {
		case number == a.Version:
			return invalid("Invalid function version %s. Function version %s is already included in routing configuration.", number, number)
		case a.Version == lambda.Latest:
			return invalid("$LATEST is not supported for an alias pointing to more than 1 version")
		}
		if _, ok := c.Version(id, number); !ok {
			return NotFound(c.arn(id, number))
		}
	}
	return nil
}

// DeleteAlias removes an alias with its policy and URL; one that is not there is not an error. Error: ResourceNotFound for the
// function.
func (c *Catalog) DeleteAlias(ctx context.Context, id ID, name string) error {
	_, err := c.change(ctx, id, NotFound(c.arn(id, "")), func(ch *change) error {
		if _, ok := find[Alias](c, id.alias(name)); !ok {
			return errUnchanged
		}
		if err := ch.unprovision(c, name); err != nil {
			return err
		}
		ch.stage(store.Delete(id.alias(name), store.Any))
		ch.stage(store.Delete(id.policy(name), store.Any))
		ch.stage(store.Delete(id.eventConfig(name), store.Any))
		if u, ok := find[URL](c, id.url(name)); ok {
			ch.removeURL(u)
		}
		return nil
	})
	return err
}
