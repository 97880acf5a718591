// Package jetstream keeps both ports of store in an embedded NATS server with JetStream: the catalog as a stream with one
// message per key, blobs as a stream of chunks. Every acknowledged write is synced to disk.
//
// Layout of the directory:
//
//	lock         held (flock) by the process that has it open
//	mode         what the directory was made for: a standalone server's must never be opened as a cluster member
//	standalone/  the server's own files
package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"berth/store"
)

// Defaults and limits of Config.
const (
	DefaultMinFree      = 64 << 20 // bytes
	DefaultTombstoneAge = 24 * time.Hour
	startTimeout        = 60 * time.Second // recovery of a large directory after a crash included
)

// Config says where and how an engine runs.
type Config struct {
	Dir    string       // made with mode 0700 if absent; one process at a time
	Logger *slog.Logger // nil is slog.Default()

	// MinFree is how many bytes of the file system stay free: writes fail with store.ErrFull before they reach into it,
	// since the server itself does not survive a full disk. 0 is DefaultMinFree.
	MinFree int64

	// TombstoneAge is how long a deletion is kept for watchers that were cut off meanwhile; at least a second.
	// 0 is DefaultTombstoneAge.
	TombstoneAge time.Duration
}

// Engine is an open directory with its running server. Close ends it.
type Engine struct {
	config Config
	log    *slog.Logger
	dir    *directory
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream

	catalog *catalog
	blobs   *blobs

	stop   context.CancelFunc // ends the background work
	work   sync.WaitGroup
	closed sync.Once
}

// Open locks the directory, recovers what is in it, and starts the server. ctx bounds the start only. The error says what
// to do when another process has the directory open, or when it was made for something else.
func Open(ctx context.Context, config Config) (*Engine, error) {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.MinFree == 0 {
		config.MinFree = DefaultMinFree
	}
	if config.TombstoneAge == 0 {
		config.TombstoneAge = DefaultTombstoneAge
	}
	dir, err := openDirectory(config.Dir, config.MinFree)
	if err != nil {
		return nil, err
	}
	e := &Engine{config: config, log: config.Logger.With("part", "engine"), dir: dir, stop: func() {}}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the engine in %s: %w", config.Dir, err), e.Close())
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if e.server, err = startServer(ctx, e.dir.data(), e.log); err != nil {
		return err
	}
	e.conn, err = nats.Connect("",
		nats.InProcessServer(e.server),
		nats.Name("berth"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100*time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			e.log.Warn("the engine's connection reports an error", "err", err)
		}),
	)
	if err != nil {
		return fmt.Errorf("connecting in process: %w", err)
	}
	if e.js, err = jetstream.New(e.conn); err != nil {
		return err
	}
	catalogStream, err := e.stream(ctx, catalogConfig())
	if err != nil {
		return err
	}
	blobStream, err := e.stream(ctx, blobConfig())
	if err != nil {
		return err
	}
	background, stop := context.WithCancel(context.Background())
	e.stop = stop
	e.catalog = &catalog{engine: e, stream: catalogStream, background: background,
		inFlight: semaphore.NewWeighted(maxBytesInFlight)}
	e.blobs = newBlobs(e, blobStream)
	e.work.Go(func() { e.blobs.sweep(background) })
	return nil
}

// stream opens a stream, or makes it the first time.
func (e *Engine) stream(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	s, err := e.js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = e.js.CreateStream(ctx, config)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", config.Name, err)
	}
	return s, nil
}

// Catalog is the engine's catalog; it is usable until Close.
func (e *Engine) Catalog() store.Catalog { return e.catalog }

// Blobs is the engine's blob store; it is usable until Close.
func (e *Engine) Blobs() store.Blobs { return e.blobs }

// Conn is the engine's connection, for what else travels over it. Close closes it.
func (e *Engine) Conn() *nats.Conn { return e.conn }

// Close ends the server in order and waits until its files are closed and the directory is free for another process.
// Watches break; calls under way fail. It may be called more than once.
func (e *Engine) Close() error {
	var err error
	e.closed.Do(func() {
		e.stop()
		e.work.Wait()
		if e.conn != nil {
			e.conn.Close()
		}
		if e.server != nil {
			e.server.Shutdown()
			e.server.WaitForShutdown()
		}
		err = e.dir.close()
	})
	return err
}
