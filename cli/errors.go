package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"

	"github.com/aws/smithy-go"
)

// Codes by which the server says that it does not accept the key.
var keyErrors = map[string]bool{
	"UnrecognizedClientException":         true,
	"InvalidSignatureException":           true,
	"IncompleteSignatureException":        true,
	"MissingAuthenticationTokenException": true,
}

// explain turns an SDK's error into what a person needs: what happened and what to do.
func (a *app) explain(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) {
		if keyErrors[api.ErrorCode()] {
			return fmt.Errorf("the server does not accept this access key (%s): %s\nrun eval \"$(berth env)\" again, or say where the server's data is with --data DIR",
				api.ErrorCode(), api.ErrorMessage())
		}
		return fmt.Errorf("%s: %s", api.ErrorCode(), api.ErrorMessage())
	}
	if unreachable(err) {
		endpoint := "the configured address"
		if server, serverErr := a.server(); serverErr == nil {
			endpoint = server.Endpoint
		}
		return fmt.Errorf("no berth server answers at %s: start one with `berth serve`", endpoint)
	}
	return err
}

// unreachable reports whether nobody took the connection.
func unreachable(err error) bool {
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) {
		return true
	}
	var dns *net.DNSError
	var asURL *url.Error
	return errors.As(err, &dns) || errors.As(err, &asURL) && asURL.Timeout() && !errors.Is(err, context.DeadlineExceeded)
}

// codeOf names an error for scripts: the API's own code, or "failed".
func codeOf(err error) string {
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		return api.ErrorCode()
	case unreachable(err):
		return "unreachable"
	}
	return "failed"
}

func isNotFound(err error) bool { return codeOf(err) == "ResourceNotFoundException" }

// explainMissing adds to a ResourceNotFoundException what to do about a function's name.
func explainMissing(err error, name string) error {
	if !isNotFound(err) {
		return err
	}
	var api smithy.APIError
	errors.As(err, &api)
	return &smithy.GenericAPIError{
		Code:    api.ErrorCode(),
		Message: fmt.Sprintf("%s\nno function %q, or it has no such version or alias: `berth list` shows the functions", api.ErrorMessage(), name),
	}
}
