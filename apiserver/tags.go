package apiserver

import (
	"context"
	"maps"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"berth/catalog"
)

// tagged is a resource that has tags.
type tagged struct {
	tags   map[string]string
	change func(ctx context.Context, add map[string]string, remove []string) error
}

// taggable finds what the ARN in a request names. The model has checked its form.
func (s *Server) taggable(c *call, resource *string) (*tagged, error) {
	parts := strings.Split(aws.ToString(resource), ":") // arn:aws:lambda:REGION:ACCOUNT:KIND:NAME
	if len(parts) < 7 {
		return nil, noSuchResource()
	}
	kind, name := parts[5], parts[6]
	if kind == "function" {
		return s.taggableFunction(c, resource)
	}
	if kind == "capacity-provider" {
		return nil, s.noCapacityProvider(c, resource)
	}
	if parts[3] != s.cfg.Catalog.Region() || parts[4] != string(c.account) {
		return nil, noSuchResource()
	}
	switch kind {
	case "event-source-mapping":
		return s.taggableMapping(c, name)
	case "code-signing-config":
		return s.taggableSigning(c, *resource, name)
	}
	return nil, noSuchResource()
}

func (s *Server) taggableFunction(c *call, resource *string) (*tagged, error) {
	ref, err := s.ref(c, resource, nil)
	if err != nil {
		return nil, err
	}
	if ref.Qualifier != "" {
		return nil, invalid("Tags on function aliases and versions are not supported. Please specify a function ARN.")
	}
	f, err := s.function(c, resource)
	if err != nil {
		return nil, err
	}
	return &tagged{f.Tags, func(ctx context.Context, add map[string]string, remove []string) error {
		return s.cfg.Catalog.Tag(ctx, f.ID(), add, remove)
	}}, nil
}

func (s *Server) taggableMapping(c *call, id string) (*tagged, error) {
	m, ok := s.cfg.Catalog.Mapping(c.account, id)
	if !ok {
		return nil, noSuchResource()
	}
	return &tagged{m.Tags, func(ctx context.Context, add map[string]string, remove []string) error {
		_, err := s.cfg.Catalog.UpdateMapping(ctx, c.account, id, noSuchResource(), func(m *catalog.Mapping) error {
			return editTags(&m.Tags, add, remove)
		})
		return err
	}}, nil
}

func (s *Server) taggableSigning(c *call, arn, id string) (*tagged, error) {
	cfg, ok := s.cfg.Catalog.SigningByARN(c.account, arn)
	if !ok {
		return nil, noSuchResource()
	}
	return &tagged{cfg.Tags, func(ctx context.Context, add map[string]string, remove []string) error {
		_, err := s.cfg.Catalog.UpdateSigning(ctx, c.account, id, noSuchResource(), func(cfg *catalog.CodeSigning) error {
			return editTags(&cfg.Tags, add, remove)
		})
		return err
	}}, nil
}

// reservedTags begins the keys that AWS alone gives.
const reservedTags = "aws:"

// checkTags checks the tags that a request gives; the model has checked the characters of each. The sentence on reserved keys is that of AWS's
// other services: what Lambda says is not known.
func checkTags(tags map[string]string) error {
	for key := range tags {
		if strings.HasPrefix(key, reservedTags) {
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		}
	}
	return catalog.CheckTags(tags)
}

// editTags changes a copy that may be changed.
func editTags(tags *map[string]string, add map[string]string, remove []string) error {
	if *tags == nil {
		*tags = make(map[string]string)
	}
	maps.Copy(*tags, add)
	for _, k := range remove {
		delete(*tags, k)
	}
	return catalog.CheckTags(*tags)
}

func (s *Server) tagResource(ctx context.Context, c *call, in *sdk.TagResourceInput) (*none, error) {
	if len(in.Tags) == 0 {
		return nil, invalid("An error occurred and the request cannot be processed.")
	}
	r, err := s.taggable(c, in.Resource)
	if err != nil {
		return nil, err
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	return &none{}, r.change(ctx, in.Tags, nil)
}

func (s *Server) untagResource(ctx context.Context, c *call, in *sdk.UntagResourceInput) (*none, error) {
	r, err := s.taggable(c, in.Resource)
	if err != nil {
		return nil, err
	}
	return &none{}, r.change(ctx, nil, in.TagKeys)
}

func (s *Server) listTags(_ context.Context, c *call, in *sdk.ListTagsInput) (*sdk.ListTagsOutput, error) {
	r, err := s.taggable(c, in.Resource)
	if err != nil {
		return nil, err
	}
	out := &sdk.ListTagsOutput{Tags: map[string]string{}}
	if r.tags != nil {
		out.Tags = r.tags
	}
	return out, nil
}
