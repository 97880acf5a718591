package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"berth/lambda"
)

// targetPrefix begins X-Amz-Target of every CloudWatch Logs call.
const targetPrefix = "Logs_20140328."

// apiTimeout bounds one call; a group at its largest is read in well under a second.
const apiTimeout = 20 * time.Second

// API speaks the CloudWatch Logs protocol (AWS JSON 1.1) for a Store: the calls that read logs, and those that make and
// delete groups.
type API struct {
	Store  *Store
	Region string       // for ARNs
	Log    *slog.Logger // nil discards
}

// Handles reports whether r is a CloudWatch Logs call (POST with X-Amz-Target Logs_20140328.…).
func (a *API) Handles(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
}

// Serve answers one authenticated call of account, whose whole body is given. x-amzn-RequestId is the caller's to set.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, account lambda.AccountID, body []byte) {
	ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
	defer cancel()
	answer, err := a.call(ctx, strings.TrimPrefix(r.Header.Get("X-Amz-Target"), targetPrefix), account, body)
	if err != nil {
		var known *apiError
		if !errors.As(err, &known) {
			known = a.translate(err)
		}
		writeError(w, known.status(), known)
		return
	}
	write(w, http.StatusOK, answer)
}

// Refuse answers a call that is not to be served: nobody's, or too large.
func (a *API) Refuse(w http.ResponseWriter, e *lambda.Error) {
	writeError(w, http.StatusBadRequest, &apiError{string(e.Code), e.Message})
}

func writeError(w http.ResponseWriter, status int, e *apiError) {
	w.Header().Set("X-Amzn-Errortype", e.Type)
	write(w, status, e)
}

// write answers with a document; a nil one is an empty body.
func write(w http.ResponseWriter, status int, answer any) {
	var out []byte
	if answer != nil {
		var err error
		if out, err = json.Marshal(answer); err != nil { // our own types: cannot be
			status, out = http.StatusInternalServerError, []byte(`{"__type":"InternalFailure"}`)
		}
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_, _ = w.Write(out) // the client may have gone
}

func (a *API) call(ctx context.Context, operation string, account lambda.AccountID, body []byte) (any, error) {
	c := call{ctx: ctx, api: a, account: account}
	switch operation {
	case "FilterLogEvents":
		return answer(body, c.filterLogEvents)
	case "GetLogEvents":
		return answer(body, c.getLogEvents)
	case "DescribeLogGroups":
		return answer(body, c.describeLogGroups)
	case "DescribeLogStreams":
		return answer(body, c.describeLogStreams)
	case "CreateLogGroup":
		return answer(body, c.createLogGroup)
	case "DeleteLogGroup":
		return answer(body, c.deleteLogGroup)
	}
	return nil, &apiError{"UnknownOperationException", fmt.Sprintf("Berth has no CloudWatch Logs operation %.64q", operation)}
}

// answer decodes a call's input and makes the call.
func answer[In any](body []byte, f func(In) (any, error)) (any, error) {
	var in In
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, &apiError{"SerializationException", "The body must be a JSON object with members of the right types."}
		}
	}
	return f(in)
}

// apiError is an error on the wire.
type apiError struct {
	Type    string `json:"__type"`
	Message string `json:"message"`
}

func (e *apiError) Error() string { return e.Type + ": " + e.Message }

func (e *apiError) status() int {
	if e.Type == "ServiceUnavailableException" {
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

func invalid(format string, args ...any) error {
	return &apiError{"InvalidParameterException", fmt.Sprintf(format, args...)}
}

func (a *API) translate(err error) *apiError {
	switch {
	case errors.Is(err, ErrNotFound):
		return &apiError{"ResourceNotFoundException", "The specified log group does not exist."}
	case errors.Is(err, ErrCursor):
		return &apiError{"InvalidParameterException", "The specified nextToken is invalid."}
	case errors.Is(err, fs.ErrExist):
		return &apiError{"ResourceAlreadyExistsException", "The specified log group already exists"}
	}
	if a.Log != nil {
		a.Log.Error("cannot answer a call for logs", "error", err)
	}
	return &apiError{"ServiceUnavailableException", "The logs cannot be read at the moment; try again."}
}
