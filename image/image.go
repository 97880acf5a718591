// Package image reads container images (OCI and Docker) from registries, layout directories, archives and plain directories,
// keeps their content among the blobs, and unpacks it into trees that become the root of sandboxes.
//
// An image among the blobs is what it is in a registry: the manifest, the configuration and the layers, each under its own
// SHA-256. So an image's name here, the digest of its manifest, is its name everywhere, layers are stored once, and a worker
// on any machine that has the manifest's digest can unpack the image.
//
// An unpacked image is a directory with two entries: "root", the file system, and "config.json", the Settings.
//
// Images are hostile. What Unpack makes of one holds regular files, directories and symbolic links only, below one directory,
// within bounds of bytes and entries; nothing outside is read or written whatever the links say.
package image

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"berth/lambda"
)

// Bounds of images. Lambda's own is that of the size (developer guide, "Container image code package size").
const (
	DefaultBytes   = 10 << 30 // uncompressed, all layers together
	DefaultEntries = 500_000  // of all layers together

	maxDocument = 4 << 20 // bytes of a manifest, an index or a configuration; registries refuse larger manifests
	maxLayers   = 127     // what Docker can mount
	maxName     = 4096    // bytes of an entry's name or of a link's target: PATH_MAX
	maxSegment  = 255     // bytes of one name: NAME_MAX
	maxDepth    = 128     // directories below one another
	maxHops     = 40      // links on the way to one file, as in Linux
)

// Limits bound one image. Zero values are the defaults.
type Limits struct {
	Bytes   int64 // uncompressed, all layers together, hidden files included
	Entries int
}

func (l Limits) orDefaults() Limits {
	if l.Bytes <= 0 {
		l.Bytes = DefaultBytes
	}
	if l.Entries <= 0 {
		l.Entries = DefaultEntries
	}
	return l
}

// Settings are what an image says about how it is run.
type Settings struct {
	Env        []string `json:"env,omitempty"` // NAME=VALUE
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`

	Labels map[string]string `json:"labels,omitempty"`
}

// The entries of an unpacked image.
const (
	rootName     = "root"
	settingsName = "config.json"
)

func settingsOf(c *v1.ConfigFile) Settings {
	return Settings{Env: c.Config.Env, Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, WorkingDir: c.Config.WorkingDir, Labels: c.Config.Labels}
}

// ReadSettings reads the settings of the unpacked image in dir.
func ReadSettings(dir string) (Settings, error) {
	var s Settings
	f, err := os.Open(dir + "/" + settingsName)
	if err != nil {
		return s, fmt.Errorf("the settings of an unpacked image: %w", err)
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, 2*maxDocument)).Decode(&s); err != nil {
		return s, fmt.Errorf("the settings of an unpacked image: %w", err)
	}
	return s, nil
}

// Root returns the directory that holds the file system of the unpacked image in dir.
func Root(dir string) string { return dir + "/" + rootName }

// refuse says what is wrong with an image; its owner can do something about it.
func refuse(format string, args ...any) error {
	return lambda.Errorf(lambda.InvalidParameterValue, "The image cannot be used: "+format, args...)
}

// readDocument reads a manifest or configuration.
func readDocument(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = refuse("its manifest or configuration is larger than %d bytes.", maxDocument)
	}
	return text, err
}
