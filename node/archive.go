package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"berth/store"
	"berth/store/archive"
	"berth/store/jetstream"
)

// Stored says whose functions are meant by Export and Import: those of a server that is stopped, in its data directory, or
// those of a cluster whose engine runs.
type Stored struct {
	DataDir   string
	Engine    string // nats://host:port, or several; "" for the data directory
	TokenFile string // with Engine
	TLS       TLSFiles
	Log       *slog.Logger
}

func (s *Stored) open(ctx context.Context) (*jetstream.Engine, func() error, error) {
	if s.Engine == "" {
		return s.openDir(ctx)
	}
	if _, err := engineHosts(s.Engine); err != nil {
		return nil, nil, err
	}
	path := s.TokenFile
	if path == "" {
		path = filepath.Join(s.DataDir, "cluster-token")
	}
	token, err := clusterToken(path, false)
	if err != nil {
		return nil, nil, err
	}
	security, err := s.TLS.config()
	if err != nil {
		return nil, nil, err
	}
	e, err := jetstream.Connect(ctx, jetstream.Remote{URL: s.Engine, Token: token, TLS: security, Logger: s.Log})
	if err != nil {
		return nil, nil, err
	}
	return e, e.Close, nil
}

func (s *Stored) openDir(ctx context.Context) (*jetstream.Engine, func() error, error) {
	if _, err := os.Stat(filepath.Join(s.DataDir, "engine")); err != nil {
		return nil, nil, fmt.Errorf("there is no server's data in %s: %w", s.DataDir, err)
	}
	data, err := openDataDir(s.DataDir)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (the server must be stopped, or name a running engine with --engine)", err)
	}
	e, err := jetstream.Open(ctx, jetstream.Config{Dir: data.join("engine"), Logger: s.Log})
	if err != nil {
		return nil, nil, errors.Join(err, data.close())
	}
	return e, func() error { return errors.Join(e.Close(), data.close()) }, nil
}

// exported tells records of functions, accounts and keys from those of one cluster's own life.
func exported(k store.Key) bool {
	return strings.HasPrefix(string(k), "api/") && !strings.HasPrefix(string(k), "api/ring")
}

// Export writes all functions, with their code, accounts and keys.
func Export(ctx context.Context, from Stored, w io.Writer) (counts archive.Counts, err error) {
	e, done, err := from.open(ctx)
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, done()) }()
	return archive.Export(ctx, e.Catalog(), e.Blobs(), exported, w)
}

// Import reads what Export wrote. It refuses a target that has functions, unless it may write over them.
func Import(ctx context.Context, into Stored, overwrite bool, r io.Reader) (counts archive.Counts, err error) {
	if into.Engine == "" {
		if err := os.MkdirAll(filepath.Join(into.DataDir, "engine"), 0o700); err != nil {
			return counts, fmt.Errorf("making the data directory: %w", err)
		}
	}
	e, done, err := into.open(ctx)
	if err != nil {
		return counts, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if !overwrite {
		if err := refuseFunctions(ctx, e.Catalog()); err != nil {
			return counts, err
		}
	}
	return archive.Import(ctx, e.Catalog(), e.Blobs(), r)
}

// refuseFunctions fails when there are functions already.
func refuseFunctions(ctx context.Context, c store.Catalog) error {
	ctx, stop := context.WithTimeout(ctx, startLimit)
	defer stop()
	found, complete := "", false
	err := c.Watch(ctx, "api/function/", func(e store.Entry) {
		if e.Value != nil {
			found = string(e.Key)
		}
	}, func(store.Revision) { complete = true; stop() })
	switch {
	case !complete:
		return fmt.Errorf("reading the catalog: %w", err)
	case found != "":
		return fmt.Errorf("there are functions already (%s): import into a new cluster, or write over them with --overwrite", strings.TrimPrefix(found, "api/function/"))
	}
	return nil
}
