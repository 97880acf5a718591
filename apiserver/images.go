package apiserver

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/catalog"
	"berth/lambda"
)

// ResolvedImage is what a reference to a container image means at one moment.
type ResolvedImage struct {
	Reference string            // with the digest
	Digest    lambda.CodeDigest // of the manifest
}

// Images finds container images. Errors that the caller can do something about are *lambda.Error.
type Images interface {
	// Resolve asks the registry (or looks at the file) for the image of an architecture (x86_64, arm64). It fetches no layers.
	Resolve(ctx context.Context, ref, architecture string) (ResolvedImage, error)
	// Release fetches an image and makes it a version of a runtime.
	Release(ctx context.Context, runtime, from string) (lambda.RuntimeRelease, error)
}

// Runtimes tells which runtimes the workers have installed.
type Runtimes interface {
	Names() []string
	// Installed is the version that they use; false when none has the runtime.
	Installed(runtime string) (lambda.RuntimeVersionID, bool)
}

// Lambda's text, as users report it.
const textNotForImages = "Please don't provide Handler or Runtime or Layer when the intent is to create a function with container image."

const textImagesOnly = "Please don't provide ImageConfig for a function with packageType Zip."

// useImage finds the image that a caller named and makes it a version's code.
func (s *Server) useImage(ctx context.Context, v *catalog.Version, uri string) error {
	found, err := s.resolveImage(ctx, uri, v.Architecture)
	if err != nil {
		return err
	}
	setImage(v, uri, found)
	return nil
}

// resolveLimit bounds the wait for a registry's answer to a request that somebody waits for.
const resolveLimit = 45 * time.Second

func (s *Server) resolveImage(ctx context.Context, uri, architecture string) (ResolvedImage, error) {
	if s.cfg.Images == nil {
		return ResolvedImage{}, invalid("Container images are not supported by this server. Give the code as a zip in ZipFile.")
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	found, err := s.cfg.Images.Resolve(ctx, uri, architecture)
	var known *lambda.Error
	if err != nil && !errors.As(err, &known) { // what exactly is not for everybody: it would tell of this server's network
		s.log.WarnContext(ctx, "a container image could not be resolved", "image", uri, "err", err)
		return found, invalid("Source image %s cannot be read: its registry does not answer as one. The server's log has details.", uri)
	}
	return found, err
}

func setImage(v *catalog.Version, uri string, found ResolvedImage) {
	next := lambda.Image{}
	if v.Image != nil {
		next = *v.Image
	}
	next.URI, next.Resolved = uri, found.Reference
	v.Image = &next
	v.Code, v.CodeSHA256, v.CodeSize, v.Unpacked = found.Digest, string(found.Digest), 0, 0
}

// setImageConfig replaces what a function's owner has set in place of the image's settings: all of it, as recorded.
func setImageConfig(v *catalog.Version, in *types.ImageConfig) {
	if in == nil || v.Image == nil {
		return
	}
	v.Image = &lambda.Image{
		URI: v.Image.URI, Resolved: v.Image.Resolved,
		EntryPoint: in.EntryPoint, Command: in.Command, WorkingDirectory: aws.ToString(in.WorkingDirectory),
	}
}

// describeImage shows what replaces the image's settings, if anything does.
func describeImage(i *lambda.Image) *types.ImageConfigResponse {
	if len(i.EntryPoint) == 0 && len(i.Command) == 0 && i.WorkingDirectory == "" {
		return nil
	}
	return &types.ImageConfigResponse{ImageConfig: &types.ImageConfig{
		EntryPoint: i.EntryPoint, Command: i.Command, WorkingDirectory: optional(i.WorkingDirectory),
	}}
}

// updateImage gives a function another image.
func (s *Server) updateImage(ctx context.Context, f *catalog.Function, in *sdk.UpdateFunctionCodeInput) (*types.FunctionConfiguration, error) {
	v := f.Latest
	setArchitecture(&v, in.Architectures)
	found, err := s.resolveImage(ctx, *in.ImageUri, v.Architecture)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		setImage(&v, *in.ImageUri, found)
		return s.describe(&v, f.ARN()), nil
	}
	f, published, err := s.cfg.Catalog.Update(ctx, f.ID(), aws.ToString(in.RevisionId), in.Publish, func(v *catalog.Version) error {
		setArchitecture(v, in.Architectures)
		setImage(v, *in.ImageUri, found)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.updated(f, published), nil
}
