// Package jetstream keeps the ports of store in a NATS server with JetStream: the catalog as a stream with one message per
// key, blobs as a stream of chunks, the queue as work-queue streams. Open runs the server in this process, for it alone or for others too; Connect uses one
// that runs elsewhere. Every write that a server of Open acknowledges is synced to disk.
//
// Layout of the directory:
//
//	lock         held (flock) by the process that has it open
//	mode         what the directory was made for: a standalone server's must never be opened as a cluster member
//	standalone/  the server's own files, or
//	cluster/     those of a member of a cluster
package jetstream

import (
	"context"
	"crypto/tls"
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

	// Listen is the host:port where other processes may connect, with Token; port 0 takes a free one. "" keeps the engine to
	// this process.
	Listen string
	Token  string      // never logged
	TLS    *tls.Config // for who connects, and between members of a cluster; nil is plain TCP

	// Cluster makes the server a member of one; nil is a standalone server. Needs Listen.
	Cluster *Cluster
}

// Engine is an open directory with its running server, or a connection to one in another process. Close ends it.
type Engine struct {
	config Config
	log    *slog.Logger
	dir    *directory     // nil when connected to another process
	server *server.Server // likewise
	conn   *nats.Conn
	js     jetstream.JetStream

	catalog *catalog
	blobs   *blobs
	queue   *queue

	stop   func() // ends the background work
	work   sync.WaitGroup
	closed sync.Once
}

// Open locks the directory, recovers what is in it, and starts the server. ctx bounds the start only. The error says what
// to do when another process has the directory open, or when it was made for something else.
func Open(ctx context.Context, config Config) (*Engine, error) {
	config.setDefaults()
	if config.Listen != "" && config.Token == "" {
		return nil, errors.New("an engine that listens needs a token, or everybody could connect")
	}
	if config.Cluster != nil && config.Listen == "" {
		return nil, errors.New("a member of a cluster needs an address where processes may connect")
	}
	dir, err := openDirectory(config.Dir, config.MinFree, config.Cluster)
	if err != nil {
		return nil, err
	}
	e := &Engine{config: config, log: config.Logger.With("part", "engine"), dir: dir, stop: func() {}}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the engine in %s: %w", config.Dir, err), e.Close())
	}
	return e, nil
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MinFree == 0 {
		c.MinFree = DefaultMinFree
	}
	if c.TombstoneAge == 0 {
		c.TombstoneAge = DefaultTombstoneAge
	}
}

func (e *Engine) start(ctx context.Context) (err error) {
	limit := startTimeout
	if e.config.Cluster != nil {
		limit = formTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if e.server, err = startServer(ctx, e.dir, e.config, e.log); err != nil {
		return err
	}
	if e.conn, err = nats.Connect("", append(e.options(), nats.InProcessServer(e.server))...); err != nil {
		return fmt.Errorf("connecting in process: %w", err)
	}
	if err := e.serveRoom(); err != nil {
		return err
	}
	if err := e.open(ctx); err != nil {
		return err
	}
	background, stop := context.WithCancel(context.Background())
	e.onClose(stop)
	e.work.Go(func() { e.blobs.sweep(background) })
	return nil
}

// options of a connection: it lasts as long as the engine, whatever happens to the server meanwhile.
func (e *Engine) options() []nats.Option {
	options := []nats.Option{
		nats.Name("berth"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			e.log.Warn("the engine's connection reports an error", "err", err)
		}),
	}
	if e.config.Token != "" {
		options = append(options, nats.Token(e.config.Token))
	}
	return options
}

// open opens the streams over the connection.
func (e *Engine) open(ctx context.Context) (err error) {
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
	e.onClose(stop)
	e.catalog = &catalog{engine: e, stream: catalogStream, background: background,
		inFlight: semaphore.NewWeighted(maxBytesInFlight)}
	e.blobs = newBlobs(e, blobStream)
	e.queue, err = openQueue(ctx, e)
	return err
}

// onClose adds to what Close does first.
func (e *Engine) onClose(f func()) {
	before := e.stop
	e.stop = func() { f(); before() }
}

// Catalog is the engine's catalog; it is usable until Close.
func (e *Engine) Catalog() store.Catalog { return e.catalog }

// Blobs is the engine's blob store; it is usable until Close.
func (e *Engine) Blobs() store.Blobs { return e.blobs }

// Queue is the engine's queue; it is usable until Close.
func (e *Engine) Queue() store.Queue { return e.queue }

// Queued is how many messages the queue held a few seconds ago. Only a process that watches the queue knows.
func (e *Engine) Queued() int { return int(e.queue.held.Load()) }

// Conn is the engine's connection, for what else travels over it. Close closes it.
func (e *Engine) Conn() *nats.Conn { return e.conn }

// Hosts reports whether the engine runs in this process.
func (e *Engine) Hosts() bool { return e.server != nil }

// URL is where other processes connect ("nats://127.0.0.1:4222"); "" when the engine is this process's own only, or runs in
// another process.
func (e *Engine) URL() string {
	if e.server == nil || e.config.Listen == "" {
		return ""
	}
	return "nats://" + e.server.Addr().String()
}

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
		if e.dir != nil {
			err = e.dir.close()
		}
	})
	return err
}
