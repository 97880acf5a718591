package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"berth/lambda"
	"berth/store"
)

// commit writes the head, unless the blob came in by another upload meanwhile: then this one's chunks go. In a cluster the
// leader refuses a head while another one is on its way to the replicas, and does not show that one yet: so it is waited for.
func (u *upload) commit(ctx context.Context, digest lambda.CodeDigest) error {
	content, err := json.Marshal(u.head)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	m := nats.NewMsg(headSubject + string(digest))
	m.Data = encodeRecord(m.Subject, content)
	replaces := uint64(0)
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		m.Header[headerExpect] = []string{strconv.FormatUint(replaces, 10)}
		_, err := u.blobs.engine.publish(ctx, m)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		found, at, err := u.blobs.find(ctx, digest)
		switch {
		case err != nil:
			return err
		case found == nil && at != replaces:
			replaces = at // broken: this upload repairs it
			continue
		case found == nil: // absent after all, or not to be seen yet
		case found.Upload == u.head.Upload:
			return nil // a try whose answer was lost
		default:
			return u.discard()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("another upload of blob %s was neither done nor given up in time: %w: %w", digest, ctx.Err(), store.ErrConflict)
		}
	}
}

// discard removes the chunks of an upload that came to nothing, also after its context ended.
func (u *upload) discard() error {
	if u.head.Chunks == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	return u.blobs.purge(ctx, chunkSubject+u.head.Upload+".*")
}

func (b *blobs) purge(ctx context.Context, subject string) error {
	if err := b.stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
		return fmt.Errorf("removing %s: %w", subject, err)
	}
	return nil
}

// find returns a blob's head and its sequence. The head is nil if the blob is absent, or cannot be read: after a crash of
// the machine while it was deleted.
func (b *blobs) find(ctx context.Context, digest lambda.CodeDigest) (*head, uint64, error) {
	m, err := b.engine.lastMessage(ctx, b.stream, headSubject+string(digest))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("looking for blob %s: %w", digest, err)
	}
	h, err := decodeHead(m)
	if err != nil {
		b.engine.log.Error("a blob's head is damaged", "err", err)
		return nil, m.Sequence, nil
	}
	if h.Chunks > 0 {
		info, err := b.stream.Info(ctx, jetstream.WithSubjectFilter(chunkSubject+h.Upload+".*"))
		if err != nil {
			return nil, 0, fmt.Errorf("looking for blob %s: %w", digest, err)
		}
		if len(info.State.Subjects) != h.Chunks {
			return nil, m.Sequence, nil
		}
	}
	return h, m.Sequence, nil
}

func decodeHead(m *message) (*head, error) {
	content, err := decodeRecord(m.Subject, m.Data)
	if err != nil {
		return nil, err
	}
	h := &head{}
	if err := json.Unmarshal(content, h); err != nil {
		return nil, fmt.Errorf("head %s: %w: %w", m.Subject, store.ErrDamaged, err)
	}
	return h, nil
}

// Delete implements store.Blobs. The head goes first: without it nobody begins to read.
func (b *blobs) Delete(ctx context.Context, digest lambda.CodeDigest) error {
	if err := store.CheckDigest(digest); err != nil {
		return err
	}
	m, err := b.engine.lastMessage(ctx, b.stream, headSubject+string(digest))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting blob %s: %w", digest, err)
	}
	if err := b.purge(ctx, m.Subject); err != nil {
		return err
	}
	h, err := decodeHead(m)
	if err != nil {
		b.engine.log.Error("a deleted blob's head was damaged, the next start removes its bytes", "err", err)
		return nil
	}
	return b.purge(ctx, chunkSubject+h.Upload+".*")
}

// List implements store.Blobs.
func (b *blobs) List(ctx context.Context, each func(store.BlobInfo) error) error {
	return b.heads(ctx, func(digest lambda.CodeDigest, h *head, stored time.Time) error {
		return each(store.BlobInfo{Digest: digest, Size: h.Size, Age: time.Since(stored).Seconds()})
	})
}

func (b *blobs) heads(ctx context.Context, each func(lambda.CodeDigest, *head, time.Time) error) error {
	info, err := b.stream.Info(ctx, jetstream.WithSubjectFilter(headSubject+"*"))
	if err != nil {
		return fmt.Errorf("listing blobs: %w", err)
	}
	for subject := range info.State.Subjects {
		m, err := b.engine.lastMessage(ctx, b.stream, subject)
		if errors.Is(err, store.ErrNotFound) {
			continue // deleted since
		}
		if err != nil {
			return fmt.Errorf("listing blobs: %w", err)
		}
		h, err := decodeHead(m)
		if err != nil {
			b.engine.log.Error("a blob is left out of the list", "err", err)
			continue
		}
		if err := each(lambda.CodeDigest(strings.TrimPrefix(subject, headSubject)), h, m.Time); err != nil {
			return err
		}
	}
	return nil
}

// othersUpload is how long an upload of another process may take; it may go on while the engine restarts.
const othersUpload = time.Hour

// sweep removes chunks that no head names, left by uploads that a crash ended. This engine's own uploads are not looked at,
// and those of other processes, if there can be any, only when they are old.
func (b *blobs) sweep(ctx context.Context) {
	removed, err := b.sweepOnce(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		b.engine.log.Warn("unfinished uploads could not be removed, the next start tries again", "err", err)
	case removed > 0:
		b.engine.log.Info("removed unfinished uploads", "uploads", removed)
	}
}

func (b *blobs) sweepOnce(ctx context.Context) (removed int, err error) {
	info, err := b.stream.Info(ctx, jetstream.WithSubjectFilter(chunkSubject+">"))
	if err != nil {
		return 0, err
	}
	orphans := map[string]struct{}{}
	for subject := range info.State.Subjects {
		id, _, _ := strings.Cut(strings.TrimPrefix(subject, chunkSubject), ".")
		if !strings.HasPrefix(id, b.instance) {
			orphans[id] = struct{}{}
		}
	}
	if len(orphans) == 0 {
		return 0, nil
	}
	err = b.heads(ctx, func(_ lambda.CodeDigest, h *head, _ time.Time) error {
		delete(orphans, h.Upload)
		return nil
	})
	if err != nil {
		return 0, err
	}
	for id := range orphans {
		if b.engine.config.Listen != "" {
			m, err := b.engine.lastMessage(ctx, b.stream, chunkSubject+id+".*")
			if errors.Is(err, store.ErrNotFound) || err == nil && time.Since(m.Time) < othersUpload {
				continue
			} else if err != nil {
				return removed, err
			}
		}
		if err := b.purge(ctx, chunkSubject+id+".*"); err != nil {
			return removed, err
		}
		removed++
	}
	return removed, nil
}
