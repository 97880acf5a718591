package image

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Add returns img with a layer of files (path inside without the first slash → content, mode 0644) and a label more. The same
// input makes the same image.
func Add(img v1.Image, files map[string][]byte, label, value string) (v1.Image, error) {
	if len(files) > 0 {
		var text bytes.Buffer
		out := tar.NewWriter(&text)
		for _, name := range slices.Sorted(maps.Keys(files)) {
			h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name])), ModTime: time.Unix(0, 0)}
			if err := out.WriteHeader(h); err != nil {
				return nil, err
			}
			if _, err := out.Write(files[name]); err != nil {
				return nil, err
			}
		}
		if err := out.Close(); err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
		if err != nil {
			return nil, err
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			return nil, err
		}
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Config.Labels = maps.Clone(config.Config.Labels)
	if config.Config.Labels == nil {
		config.Config.Labels = map[string]string{}
	}
	config.Config.Labels[label] = value
	return mutate.ConfigFile(img, config)
}
