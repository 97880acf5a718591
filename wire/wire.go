// Package wire carries the calls between roles that live in different processes. Each role edge has a client here, with the
// same methods as the role itself, and a server that calls the role.
//
// A call is an HTTP POST to /internal/ROLE/OPERATION. Request and answer bodies are an envelope: four bytes, big-endian,
// with the length of a JSON document (at most 1 MiB); the document; then raw bytes to the end (a payload or a log, at most
// maxRaw). So payloads are never encoded. Callers show the cluster's token as a bearer token; where the processes cross a
// network, TLS with client certificates goes below.
//
// An error that has a meaning for the other role travels as itself: a lambda.Error, lambda.ErrNoCapacity or
// lambda.ErrUnknownEnvironment. When no answer comes, the client returns lambda.ErrUnreachable, and nobody knows what
// happened, unless the method says otherwise.
package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"berth/lambda"
)

// Limits of an envelope, in bytes.
const (
	headSize = 4
	maxMeta  = 1 << 20
	maxRaw   = lambda.MaxPayload + lambda.LogTail
)

const (
	prefix      = "/internal/"
	joinBelow   = 64 << 10 // bytes of payload that are copied behind the document: sending two parts costs a buffer of 32 KiB
	dialLimit   = 500 * time.Millisecond
	idleLimit   = time.Minute
	idlePerHost = 512
)

// failure is an error on the wire.
type failure struct {
	Kind    string        `json:"kind"` // "lambda", "no-capacity", "unknown-environment", "other"
	Error   *lambda.Error `json:"error,omitempty"`
	Message string        `json:"message,omitempty"`
}

const (
	kindLambda             = "lambda"
	kindNoCapacity         = "no-capacity"
	kindUnknownEnvironment = "unknown-environment"
	kindOther              = "other"
)

func failureOf(err error) *failure {
	var e *lambda.Error
	switch {
	case errors.As(err, &e):
		return &failure{Kind: kindLambda, Error: e}
	case errors.Is(err, lambda.ErrNoCapacity):
		return &failure{Kind: kindNoCapacity}
	case errors.Is(err, lambda.ErrUnknownEnvironment):
		return &failure{Kind: kindUnknownEnvironment}
	default:
		return &failure{Kind: kindOther, Message: err.Error()}
	}
}

func (f *failure) err() error {
	switch {
	case f.Kind == kindLambda && f.Error != nil:
		return f.Error
	case f.Kind == kindNoCapacity:
		return lambda.ErrNoCapacity
	case f.Kind == kindUnknownEnvironment:
		return lambda.ErrUnknownEnvironment
	default:
		return errors.New(f.Message)
	}
}

// appendEnvelope adds an envelope's head and document; the raw bytes follow.
func appendEnvelope(buf []byte, meta any) ([]byte, error) {
	document, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	if len(document) > maxMeta {
		return nil, fmt.Errorf("a document of %d bytes is too large for the wire (limit %d)", len(document), maxMeta)
	}
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(document)))
	return append(buf, document...), nil
}

// readEnvelope reads a whole envelope of size bytes and decodes its document into meta.
func readEnvelope(r io.Reader, size int64, meta any) (raw []byte, err error) {
	if size < headSize || size > headSize+maxMeta+maxRaw {
		return nil, fmt.Errorf("an envelope of %d bytes: expected %d to %d", size, headSize, headSize+maxMeta+maxRaw)
	}
	var head [headSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("reading an envelope: %w", err)
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	rest := size - headSize - n
	if n > maxMeta || rest < 0 || rest > maxRaw {
		return nil, fmt.Errorf("an envelope of %d bytes has a document of %d: the limits are %d for the document and %d for the payload",
			size, n, maxMeta, maxRaw)
	}
	document := make([]byte, n)
	if _, err := io.ReadFull(r, document); err != nil {
		return nil, fmt.Errorf("reading an envelope's document: %w", err)
	}
	if err := json.Unmarshal(document, meta); err != nil {
		return nil, fmt.Errorf("decoding an envelope's document: %w", err)
	}
	if rest == 0 {
		return nil, nil
	}
	raw = make([]byte, rest)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, fmt.Errorf("reading an envelope's payload: %w", err)
	}
	return raw, nil
}

// Client calls the roles of other processes. One is shared by all edges of a process.
type Client struct {
	http          *http.Client
	authorization []string // the header's value
	scheme        string
}

// NewClient makes a client that shows the cluster's token. With a TLS configuration in transport it speaks https.
func NewClient(token string, transport *http.Transport) *Client {
	scheme := "http"
	if transport == nil {
		transport = &http.Transport{}
	}
	if transport.TLSClientConfig != nil {
		scheme = "https"
	}
	transport.DialContext = (&net.Dialer{Timeout: dialLimit, KeepAlive: 15 * time.Second}).DialContext
	transport.MaxIdleConnsPerHost = idlePerHost
	transport.IdleConnTimeout = idleLimit
	transport.DisableCompression = true
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // nobody else gets the token
	return &Client{
		http:          &http.Client{Transport: transport, CheckRedirect: refuse},
		authorization: []string{"Bearer " + token},
		scheme:        scheme,
	}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// answer is the document of every answer: a result or a failure.
type answer[T any] struct {
	Result  T        `json:"result"`
	Failure *failure `json:"failure,omitempty"`
}

// unsent marks an error of a call that never reached the other process: nothing has happened there.
var errUnsent = errors.New("the call was not sent")

// call makes one call. When no answer comes the error is lambda.ErrUnreachable, and errUnsent too if nothing was sent.
func call[Out any](ctx context.Context, c *Client, addr, operation string, in any, raw []byte) (out Out, outRaw []byte, err error) {
	head, err := appendEnvelope(nil, in)
	if err != nil {
		return out, nil, err
	}
	if len(raw) > maxRaw {
		return out, nil, fmt.Errorf("a payload of %d bytes is too large for the wire (limit %d)", len(raw), maxRaw)
	}
	size := int64(len(head) + len(raw))
	var body io.Reader
	if len(raw) <= joinBelow {
		body = bytes.NewReader(append(head, raw...))
	} else {
		body = io.MultiReader(bytes.NewReader(head), bytes.NewReader(raw))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.scheme+"://"+addr+prefix+operation, body)
	if err != nil {
		return out, nil, err
	}
	req.ContentLength = size
	req.Header = http.Header{"Authorization": c.authorization}
	res, err := c.http.Do(req)
	if err != nil {
		return out, nil, unreachable(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(res.Body, 512))
		return out, nil, fmt.Errorf("%s at %s answered %s: %s", operation, addr, res.Status, bytes.TrimSpace(message))
	}
	var a answer[Out]
	outRaw, err = readEnvelope(res.Body, res.ContentLength, &a)
	if err != nil {
		return out, nil, unreachable(err)
	}
	if a.Failure != nil {
		return out, nil, a.Failure.err()
	}
	return a.Result, outRaw, nil
}

func unreachable(err error) error {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w, %w: %w", lambda.ErrUnreachable, errUnsent, err)
	}
	return fmt.Errorf("%w: %w", lambda.ErrUnreachable, err)
}
