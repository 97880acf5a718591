package cli

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
)

// makeToken writes a random cluster token, for its owner only, unless there is one.
func makeToken(path string) error {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(hex.EncodeToString(random) + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}
