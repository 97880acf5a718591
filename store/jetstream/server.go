package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
)

// startServer runs a server that only this process can reach, and returns when it takes requests.
func startServer(ctx context.Context, dir string, log *slog.Logger) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName:         "berth",
		DontListen:         true,
		NoSigs:             true,
		MaxPayload:         maxMessage,
		JetStream:          true,
		StoreDir:           dir,
		JetStreamMaxMemory: maxMemoryStore,
		JetStreamMaxStore:  maxFileStore,
		JetStreamLimits:    server.JSLimitOpts{MaxBatchInflightPerStream: maxBatches, MaxBatchInflightTotal: maxBatches},
		SyncAlways:         true, // an acknowledged write is on disk
	})
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
