package jetstream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"berth/lambda"
	"berth/store"
)

// Open implements store.Blobs.
func (b *blobs) Open(ctx context.Context, digest lambda.CodeDigest) (io.ReadCloser, error) {
	if err := store.CheckDigest(digest); err != nil {
		return nil, err
	}
	m, err := b.engine.lastMessage(ctx, b.stream, headSubject+string(digest))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	h, err := decodeHead(m)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	return &blobReader{ctx: ctx, blobs: b, digest: digest, head: h, hash: sha256.New()}, nil
}

// blobReader reads a blob chunk by chunk, and its digest along with it.
type blobReader struct {
	ctx    context.Context
	blobs  *blobs
	digest lambda.CodeDigest
	head   *head
	hash   hash.Hash

	chunks int    // read so far
	rest   []byte // of the last of them
	err    error
}

func (r *blobReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.rest) == 0 && r.err == nil {
		r.err = r.next()
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

func (r *blobReader) next() error {
	if r.chunks == r.head.Chunks {
		if got := digestOf(r.hash.Sum(nil)); got != r.digest {
			return fmt.Errorf("blob %s: its bytes have digest %s: %w", r.digest, got, store.ErrDamaged)
		}
		return io.EOF
	}
	r.chunks++
	data, err := r.blobs.chunk(r.ctx, chunk(r.head.Upload, r.chunks))
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("blob %s: chunk %d of %d is missing, or it was deleted just now: %w",
			r.digest, r.chunks, r.head.Chunks, store.ErrDamaged)
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", r.digest, err)
	}
	r.hash.Write(data)
	r.rest = data
	return nil
}

// chunk asks any replica, which is fast, and the leader if that one does not have the chunk yet.
func (b *blobs) chunk(ctx context.Context, subject string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if m, err := b.stream.GetLastMsgForSubject(ctx, subject); err == nil {
		return m.Data, nil
	} else if err := ctx.Err(); err != nil {
		return nil, err
	} else if !errors.Is(err, jetstream.ErrMsgNotFound) {
		b.engine.log.Warn("a chunk could not be read, asking again", "err", err)
	}
	m, err := b.engine.lastMessage(ctx, b.stream, subject)
	if err != nil {
		return nil, err
	}
	return m.Data, nil
}

func (r *blobReader) Close() error {
	r.rest, r.err = nil, errors.New("read after Close")
	return nil
}
