// Package clientfile is the file in which a server tells its own user where it listens and with which key to sign:
// client.json in the data directory, readable by its owner only. The server writes it, the client commands read it.
package clientfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"berth/lambda"
)

// Name is the file's name inside the data directory.
const Name = "client.json"

// maxSize bounds what Load reads, in bytes; a real file has a few hundred.
const maxSize = 64 << 10

// ErrMissing is what Load wraps when no server has ever started with the data directory.
var ErrMissing = errors.New("no server has started with this data directory")

// File is the content of client.json.
type File struct {
	Endpoint        string           `json:"endpoint"` // "http://127.0.0.1:9000", without a path
	AccessKeyID     string           `json:"access_key_id"`
	SecretAccessKey string           `json:"secret_access_key"` // never logged
	Account         lambda.AccountID `json:"account"`
	Region          string           `json:"region"`
	Runtimes        []string         `json:"runtimes,omitempty"` // those that this server can run, "python3.11"
}

// Path returns where the file of a data directory is.
func Path(dataDir string) string { return filepath.Join(dataDir, Name) }

// Load reads the file of a data directory. It refuses a file that others can read, since the key in it may have leaked.
// Errors: ErrMissing.
func Load(dataDir string) (File, error) {
	path := Path(dataDir)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return File{}, fmt.Errorf("%w: %s is not there", ErrMissing, path)
	}
	if err != nil {
		return File{}, fmt.Errorf("reading the server's client file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return File{}, fmt.Errorf("reading the server's client file: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return File{}, fmt.Errorf("%s holds a secret key but has mode %04o, which lets others read or change it: run `chmod 600 %s`", path, perm, path)
	}
	if info.Size() > maxSize {
		return File{}, fmt.Errorf("%s has %d bytes, expected at most %d: it is not a client file", path, info.Size(), maxSize)
	}
	var file File
	if err := json.NewDecoder(f).Decode(&file); err != nil {
		return File{}, fmt.Errorf("%s is not a client file: %w", path, err)
	}
	if file.Endpoint == "" || file.AccessKeyID == "" || file.SecretAccessKey == "" {
		return File{}, fmt.Errorf("%s lacks the endpoint or the key: start the server again to have it written anew", path)
	}
	return file, nil
}

// Save replaces the file of a data directory in one step: a reader sees the old one or the new one, whole.
func Save(dataDir string, file File) (err error) {
	data, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the client file: %w", err)
	}
	tmp, err := os.CreateTemp(dataDir, Name+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing the client file: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(append(data, '\n'))
	if syncErr := tmp.Sync(); err == nil {
		err = syncErr
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), Path(dataDir))
	}
	if err != nil {
		return fmt.Errorf("writing the client file: %w", err)
	}
	return nil
}
