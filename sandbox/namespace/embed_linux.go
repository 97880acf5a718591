package namespace

import (
	"embed"
	"fmt"

	"berth/sandbox"
)

// initTree holds the init's sources and, when init/build.sh ran before the Go build, its executable. Embedding the
// directory instead of the file lets the package compile without it.
//
//go:embed init
var initTree embed.FS

// embeddedInit returns the executable that build.sh made.
func embeddedInit() ([]byte, error) {
	binary, err := initTree.ReadFile("init/berth-init")
	if err != nil {
		return nil, fmt.Errorf("%w: this binary was built without the sandbox init: build with `make build`", sandbox.ErrUnsupported)
	}
	return binary, nil
}
