package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"berth/lambda"
)

// Beginnings of references to images on this machine's disk. Everything else names an image in a registry.
const (
	layoutScheme  = "oci-layout:"
	archiveScheme = "archive:"
	dirScheme     = "dir:"
)

// Config says where images may come from.
type Config struct {
	// Dirs are the directories below which oci-layout:, archive: and dir: references may lie. They are the server's own, and
	// whoever may name one reads it: without any such references are refused.
	Dirs []string
	// Plain are the registries (HOST or HOST:PORT) that are asked over HTTP when they have no HTTPS. Those on this machine's
	// loopback addresses always are.
	Plain []string
	// Keychain has the credentials for registries; nil is Docker's: config.json and its credential helpers.
	Keychain authn.Keychain
	// Temp is where archives are unpacked meanwhile; "" is the system's directory.
	Temp string
}

// Sources opens images. It starts nothing and keeps nothing.
type Sources struct{ cfg Config }

// New makes a Sources.
func New(cfg Config) *Sources {
	if cfg.Keychain == nil {
		cfg.Keychain = authn.DefaultKeychain
	}
	return &Sources{cfg}
}

// Image is an opened image.
type Image struct {
	v1.Image
	// Resolved is the reference with the manifest's digest in the place of a tag: it means the same for ever.
	Resolved string
	Digest   lambda.CodeDigest // of the manifest
	done     func()
}

// Close frees what the image was opened with.
func (i *Image) Close() { i.done() }

// Open finds the image that ref names: HOST/REPOSITORY[:TAG|@DIGEST], oci-layout:DIR[:TAG|@DIGEST], archive:FILE or dir:DIR.
// Of an index it takes the image for Linux on architecture (as Lambda writes it: x86_64, arm64). Only the manifest is read;
// ctx must hold while the image is used. The caller closes it. Errors for the one who named it are *lambda.Error.
func (s *Sources) Open(ctx context.Context, ref, architecture string) (*Image, error) {
	platform := v1.Platform{OS: "linux", Architecture: machine(architecture)}
	done := func() {}
	img, where, err := s.open(ctx, ref, platform, &done)
	if err != nil {
		done()
		return nil, err
	}
	digest, err := img.Digest()
	if err == nil {
		err = check(img, platform)
	}
	if err != nil {
		done()
		return nil, explain(ref, err)
	}
	return &Image{Image: img, Resolved: where + "@" + digest.String(), Digest: lambda.CodeDigest(digest.Hex), done: done}, nil
}

func (s *Sources) open(ctx context.Context, ref string, platform v1.Platform, done *func()) (img v1.Image, where string, err error) {
	switch scheme, rest, _ := strings.Cut(ref, ":"); scheme + ":" {
	case layoutScheme:
		file, tag := splitTag(rest)
		if file, err = s.allowed(file); err != nil {
			return nil, "", err
		}
		img, err = fromLayout(file, tag, platform)
		return img, layoutScheme + file, explain(ref, err)
	case archiveScheme:
		file, digest, _ := strings.Cut(rest, "@")
		if file, err = s.allowed(file); err != nil {
			return nil, "", err
		}
		if img, err = fromArchive(ctx, file, s.cfg.Temp, platform, done); err == nil {
			err = sameDigest(img, digest)
		}
		return img, archiveScheme + file, explain(ref, err)
	case dirScheme:
		file, digest, _ := strings.Cut(rest, "@")
		if file, err = s.allowed(file); err != nil {
			return nil, "", err
		}
		if img, err = fromDir(file, platform); err == nil {
			err = sameDigest(img, digest)
		}
		return img, dirScheme + file, explain(ref, err)
	}
	return s.fromRegistry(ctx, ref, platform)
}

// splitTag takes DIR:TAG and DIR@sha256:HEX apart.
func splitTag(rest string) (file, tag string) {
	if file, tag, ok := strings.Cut(rest, "@"); ok {
		return file, tag
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		return rest[:i], rest[i+1:]
	}
	return rest, ""
}

// sameDigest: an archive or a directory can change; one that was named with a digest must still be that.
func sameDigest(img v1.Image, want string) error {
	if want == "" {
		return nil
	}
	got, err := img.Digest()
	if err == nil && got.String() != want {
		err = refuse("it has changed: its digest is %s now.", got)
	}
	return err
}

// allowed returns the real path of a file or directory that the operator lets be read.
func (s *Sources) allowed(file string) (string, error) {
	if len(s.cfg.Dirs) == 0 {
		return "", invalid("Images in files are not allowed by this server. Name an image in a registry, or have the operator allow a directory (berth serve --image-dir DIR).")
	}
	if !filepath.IsAbs(file) || strings.ContainsRune(file, 0) {
		return "", invalid("An image in a file is named by its absolute path on the server; %.200q is none.", file)
	}
	real, err := filepath.EvalSymlinks(file)
	for _, dir := range s.cfg.Dirs {
		base, bad := filepath.EvalSymlinks(dir)
		if bad != nil {
			continue
		}
		if err == nil && (real == base || strings.HasPrefix(real, base+"/")) {
			return real, nil
		}
		if clean := filepath.Clean(file); err != nil && (strings.HasPrefix(clean, base+"/") || strings.HasPrefix(clean, filepath.Clean(dir)+"/")) {
			return "", missing(file)
		}
	}
	return "", invalid("This server reads images below %s only.", strings.Join(s.cfg.Dirs, ", "))
}

// fromRegistry asks a registry for a manifest.
func (s *Sources) fromRegistry(ctx context.Context, ref string, platform v1.Platform) (v1.Image, string, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return nil, "", invalid("Source image %.300s is not valid. Provide a valid source image.", ref)
	}
	image, err := remote.Image(parsed, remote.WithContext(ctx), remote.WithAuthFromKeychain(s.cfg.Keychain), remote.WithPlatform(platform),
		remote.WithTransport(newTransport(parsed.Context().RegistryStr(), s.cfg.Plain)), remote.WithUserAgent("berth"))
	if err != nil {
		return nil, "", explain(ref, err)
	}
	return image, parsed.Context().Name(), nil
}

// check refuses what no machine of this server could run, and what is too much to read.
func check(img v1.Image, platform v1.Platform) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	if len(manifest.Layers) > maxLayers || manifest.Config.Size > maxDocument {
		return refuse("it has %d layers and a configuration of %d bytes; at most %d and %d are allowed.",
			len(manifest.Layers), manifest.Config.Size, maxLayers, maxDocument)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	if config.OS != "" && config.OS != platform.OS || config.Architecture != "" && config.Architecture != platform.Architecture {
		return refuse("it is for %s/%s, and %s/%s is needed.", config.OS, config.Architecture, platform.OS, platform.Architecture)
	}
	return nil
}

// machine is Go's and OCI's name of an architecture.
func machine(architecture string) string {
	if architecture == "arm64" {
		return "arm64"
	}
	return "amd64"
}

func invalid(format string, args ...any) error {
	return lambda.Errorf(lambda.InvalidParameterValue, format, args...)
}

// missing has Lambda's text.
func missing(ref string) error {
	return invalid("Source image %.300s does not exist. Provide a valid source image.", ref)
}

// explain turns what a registry or a file says into what the one who named the image can act on.
func explain(ref string, err error) error {
	var refused *lambda.Error
	var answer *transport.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		return invalid("This server may not read source image %.300s. Give its user the registry's credentials (docker login).", ref)
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound, errors.Is(err, os.ErrNotExist), errors.Is(err, errNoSuchImage):
		return missing(ref)
	case errors.Is(err, errPlain):
		return invalid("Source image %.300s: its registry speaks plain HTTP. Have the operator allow that (berth serve --plain-registry HOST:PORT).", ref)
	}
	return fmt.Errorf("source image %s: %w", ref, err)
}

// errNoSuchImage: a layout or an index has no image of that tag or platform.
var errNoSuchImage = errors.New("no such image")

// fromLayout takes an image out of an OCI layout directory.
func fromLayout(dir, tag string, platform v1.Platform) (v1.Image, error) {
	l, err := layout.FromPath(dir)
	if err != nil {
		return nil, err
	}
	index, err := l.ImageIndex()
	if err != nil {
		return nil, err
	}
	return pick(index, tag, platform, 0)
}

// maxNesting bounds indexes in indexes.
const maxNesting = 4

// refName is the annotation in which a layout keeps tags.
const refName = "org.opencontainers.image.ref.name"

// pick finds the one image of an index that has the tag or digest (if one is asked for) and suits the platform.
func pick(index v1.ImageIndex, tag string, platform v1.Platform, depth int) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var found []v1.Descriptor
	for _, d := range manifest.Manifests {
		named := d.Annotations[refName]
		if tag != "" && d.Digest.String() != tag && named != tag && !strings.HasSuffix(named, ":"+tag) {
			continue
		}
		if d.Platform != nil && (d.Platform.OS != platform.OS || d.Platform.Architecture != platform.Architecture) {
			continue
		}
		if d.MediaType.IsImage() || d.MediaType.IsIndex() && depth < maxNesting {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("%w: for %s in the index", errNoSuchImage, platform)
	case len(found) > 1 && found[0].Digest != found[1].Digest:
		return nil, invalid("There are %d images. Say which: oci-layout:DIR:TAG or oci-layout:DIR@DIGEST.", len(found))
	case found[0].MediaType.IsImage():
		return index.Image(found[0].Digest)
	}
	inner, err := index.ImageIndex(found[0].Digest)
	if err != nil {
		return nil, err
	}
	return pick(inner, "", platform, depth+1)
}
