package worker_test

import (
	"bytes"
	"context"
	"io"

	"berth/lambda"
	"berth/store"
)

// zips is a store.Blobs that holds code by digest.
type zips map[lambda.CodeDigest][]byte

func (z zips) Open(_ context.Context, d lambda.CodeDigest) (io.ReadCloser, error) {
	if zip := z[d]; zip != nil {
		return io.NopCloser(bytes.NewReader(zip)), nil
	}
	return nil, store.ErrNotFound
}

func (zips) Put(context.Context, io.Reader) (lambda.CodeDigest, int64, error) { panic("not used") }
func (zips) Delete(context.Context, lambda.CodeDigest) error                  { panic("not used") }
func (zips) List(context.Context, func(store.BlobInfo) error) error           { panic("not used") }
