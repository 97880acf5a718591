//go:build !linux && !darwin

package jetstream

import (
	"errors"
	"os"
)

var errSystem = errors.New("the embedded engine runs on Linux and macOS only")

func tryLock(*os.File) error { return errSystem }

func freeBytes(string) (int64, error) { return 0, errSystem }
