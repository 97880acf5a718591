package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Limits of the embedded server.
const (
	maxMessage     = 1 << 20  // bytes; records are below 512 KiB, chunks 256 KiB
	maxMemoryStore = 64 << 20 // bytes of streams kept in memory
	maxFileStore   = 1 << 50  // bytes; free space is what limits, see Config.MinFree
	maxBatches     = 1000     // atomic batches being received at one time
	tlsTimeout     = 3 * time.Second
)

// startServer runs a server that only this process can reach, or those with the token too, and returns when it takes
// requests.
func startServer(ctx context.Context, dir *directory, config Config, log *slog.Logger) (*server.Server, error) {
	options := &server.Options{
		ServerName:         "berth",
		DontListen:         config.Listen == "",
		NoSigs:             true,
		MaxPayload:         maxMessage,
		JetStream:          true,
		StoreDir:           dir.data(),
		JetStreamMaxMemory: maxMemoryStore,
		JetStreamMaxStore:  maxFileStore,
		JetStreamLimits:    server.JSLimitOpts{MaxBatchInflightPerStream: maxBatches, MaxBatchInflightTotal: maxBatches},
		SyncAlways:         true, // an acknowledged write is on disk
	}
	if config.Listen != "" {
		if err := listenOn(options, config); err != nil {
			return nil, err
		}
	}
	if config.Cluster != nil {
		if err := config.Cluster.join(options, dir.member, config); err != nil {
			return nil, err
		}
	}
	s, err := server.NewServer(options)
	if err != nil {
		return nil, err
	}
	recovering := new(atomic.Bool)
	recovering.Store(true)
	defer recovering.Store(false)
	s.SetLogger(serverLog{log, recovering}, false, false)
	s.Start() // returns once the streams are recovered
	for !s.ReadyForConnections(10 * time.Millisecond) {
		if err := ctx.Err(); err != nil {
			s.Shutdown()
			s.WaitForShutdown()
			return nil, fmt.Errorf("the server is not ready: %w", err)
		}
	}
	if !s.JetStreamEnabled() {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, errors.New("the server could not enable JetStream, the log says why")
	}
	return s, nil
}

// listenOn opens the server to other processes. The address is tried first: the server would end the process if it were
// taken.
func listenOn(options *server.Options, config Config) error {
	host, port, err := freePort(config.Listen)
	if err != nil {
		return fmt.Errorf("the engine cannot listen on %s: %w", config.Listen, err)
	}
	options.Host, options.Port = host, port
	options.Authorization = config.Token
	if config.TLS != nil {
		options.TLSConfig, options.TLSVerify = config.TLS, true
		options.TLSTimeout = tlsTimeout.Seconds()
	}
	return nil
}

// freePort tries an address, and takes a free port where it has none.
func freePort(addr string) (host string, port int, err error) {
	probe, err := net.Listen("tcp", addr)
	if err != nil {
		return "", 0, err
	}
	at := probe.Addr().(*net.TCPAddr)
	return at.IP.String(), at.Port, probe.Close()
}

// serverLog hands the server's log on. Its notices are about its own start and stop, of interest when debugging only; while
// it recovers it warns of whatever a crash leaves behind, which is no news to an operator.
type serverLog struct {
	log        *slog.Logger
	recovering *atomic.Bool
}

func (l serverLog) Noticef(format string, v ...any) { l.print(slog.LevelDebug, format, v) }
func (l serverLog) Debugf(format string, v ...any)  { l.print(slog.LevelDebug, format, v) }
func (l serverLog) Tracef(format string, v ...any)  { l.print(slog.LevelDebug, format, v) }

func (l serverLog) Warnf(format string, v ...any) {
	level := slog.LevelWarn
	if l.recovering.Load() {
		level = slog.LevelDebug
	}
	l.print(level, format, v)
}

func (l serverLog) Errorf(format string, v ...any) { l.print(slog.LevelError, format, v) }
func (l serverLog) Fatalf(format string, v ...any) { l.print(slog.LevelError, format, v) }

func (l serverLog) print(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}
