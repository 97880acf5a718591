package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
	"golang.org/x/sync/semaphore"

	"berth/lambda"
	"berth/store"
)

// A blob is one head message under its digest, and its chunks under the id of the upload that the head names and their
// number. The head is written last: without it the chunks are garbage, which the next start sweeps up.
const (
	headSubject  = "berth.blob.head."
	chunkSubject = "berth.blob.chunk."

	chunkSize      = 256 << 10
	chunksInFlight = 32 // of all uploads together: their memory, and enough to keep the disk busy

	cleanTimeout = 10 * time.Second
)

// blobs implements store.Blobs.
type blobs struct {
	engine   *Engine
	stream   jetstream.Stream
	instance string // begins the ids of this engine's uploads
	window   *semaphore.Weighted
	buffers  sync.Pool // of *[chunkSize]byte
}

// head is the head message's record.
type head struct {
	Size   int64  `json:"size"`
	Chunks int    `json:"chunks"`
	Upload string `json:"upload"`
}

func blobConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              "BERTH_BLOBS",
		Subjects:          []string{headSubject + "*", chunkSubject + "*.*"},
		Storage:           jetstream.FileStorage,
		MaxMsgsPerSubject: 1,    // a chunk that is sent again replaces itself
		AllowDirect:       true, // for chunks, which never change; heads are asked from the leader
	}
}

func newBlobs(e *Engine, s jetstream.Stream) *blobs {
	return &blobs{
		engine: e, stream: s, instance: nuid.Next(),
		window:  semaphore.NewWeighted(chunksInFlight),
		buffers: sync.Pool{New: func() any { return new([chunkSize]byte) }},
	}
}

// Put implements store.Blobs.
func (b *blobs) Put(ctx context.Context, r io.Reader) (lambda.CodeDigest, int64, error) {
	up := &upload{blobs: b, head: head{Upload: b.instance + "-" + nuid.Next()}}
	digest, err := up.run(ctx, r)
	if err != nil {
		return "", 0, errors.Join(fmt.Errorf("storing a blob: %w", err), up.discard())
	}
	return digest, up.head.Size, nil
}

// upload is one Put: its chunks are written while more of it is read.
type upload struct {
	blobs *blobs
	head  head

	wg     sync.WaitGroup // of chunks under way
	mu     sync.Mutex
	failed error // of any chunk
}

func (u *upload) run(ctx context.Context, r io.Reader) (lambda.CodeDigest, error) {
	hash := sha256.New()
	err := u.chunks(ctx, io.TeeReader(r, hash), func() lambda.CodeDigest { return digestOf(hash.Sum(nil)) })
	u.wg.Wait()
	digest := digestOf(hash.Sum(nil))
	switch {
	case errors.Is(err, errPresent):
		return digest, nil
	case err != nil:
		return "", err
	case u.failed != nil:
		return "", u.failed
	}
	return digest, u.commit(ctx, digest)
}

// chunk is the subject of an upload's n-th chunk, from 1.
func chunk(id string, n int) string { return chunkSubject + id + "." + strconv.Itoa(n) }

func digestOf(sum []byte) lambda.CodeDigest { return lambda.CodeDigest(hex.EncodeToString(sum)) }

// errPresent ends an upload early: all was read, and is stored already.
var errPresent = errors.New("present")

// chunks reads r to its end. A blob of one chunk is looked up before anything is written.
func (u *upload) chunks(ctx context.Context, r io.Reader, digest func() lambda.CodeDigest) error {
	for {
		buffer := u.blobs.buffers.Get().(*[chunkSize]byte)
		n, err := io.ReadFull(r, buffer[:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			u.blobs.buffers.Put(buffer)
			return err
		}
		u.head.Size += int64(n)
		if u.head.Size > store.MaxBlob {
			u.blobs.buffers.Put(buffer)
			return fmt.Errorf("%w blob: expected at most %d bytes", store.ErrInvalid, store.MaxBlob)
		}
		if end && u.head.Chunks == 0 {
			if found, _, err := u.blobs.find(ctx, digest()); err == nil && found != nil {
				u.blobs.buffers.Put(buffer)
				return errPresent
			}
		}
		if n > 0 {
			if err := u.send(ctx, buffer, n); err != nil {
				return err
			}
		} else {
			u.blobs.buffers.Put(buffer)
		}
		if end {
			return nil
		}
	}
}

// send publishes a chunk when the window has room, and takes its acknowledgement on a goroutine.
func (u *upload) send(ctx context.Context, buffer *[chunkSize]byte, n int) error {
	b := u.blobs
	if err := b.engine.room(n); err != nil {
		b.buffers.Put(buffer)
		return err
	}
	if err := b.window.Acquire(ctx, 1); err != nil {
		b.buffers.Put(buffer)
		return err
	}
	u.mu.Lock()
	failed := u.failed
	u.mu.Unlock()
	if failed != nil {
		b.window.Release(1)
		b.buffers.Put(buffer)
		return failed
	}
	u.head.Chunks++
	m := nats.NewMsg(chunk(u.head.Upload, u.head.Chunks))
	m.Data = buffer[:n]
	u.wg.Go(func() {
		defer b.window.Release(1)
		if _, err := b.engine.publish(ctx, m); err != nil {
			u.mu.Lock()
			u.failed = errors.Join(u.failed, err)
			u.mu.Unlock()
		}
		b.buffers.Put(buffer)
	})
	return nil
}
