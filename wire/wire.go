// Package wire carries the calls between roles that live in different processes. Each role edge has a client here, with the
// same methods as the role itself, and a server that calls the role.
//
// A connection begins as HTTP: GET /internal/connect with "Upgrade: berth-wire/1" and the cluster's token as a bearer token; who
// does not show it gets 401. After "101 Switching Protocols" both sides speak frames. A connection carries one call at a
// time, so that a large payload delays nobody else and a slow reader holds back its own call only; a client keeps as many
// connections to a process as it has calls there at once, and uses them again. Where the processes cross a network, TLS
// with client certificates goes below.
//
// A frame is a head of 12 bytes (see head), the operation's name (in a call), a document (at most 1 MiB) and raw bytes (a
// payload or a log, at most maxRaw), so payloads are never encoded. Documents are JSON; those on the path of an invocation
// are compact (see codec) when both sides have said in the HTTP exchange that they mean the same by it. A call is answered by an answer or
// a failure; the parts of a streamed response come before.
//
// An error that has a meaning for the other role travels as itself: a lambda.Error, lambda.ErrNoCapacity or
// lambda.ErrUnknownEnvironment. When no answer comes, the client returns lambda.ErrUnreachable, and nobody knows what
// happened, unless the method says otherwise.
package wire

import (
	"errors"

	"berth/lambda"
)

// Names in the HTTP exchange that begins a connection.
const (
	prefix          = "/internal/"
	connectPath     = prefix + "connect"
	protocol        = "berth-wire/1"
	documentsHeader = "Berth-Documents" // the digest of the compact documents' layout
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
