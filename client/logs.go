package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
)

// The one operation of CloudWatch Logs that is used, in its AWS JSON 1.1 form.
const (
	filterTarget  = "Logs_20140328.FilterLogEvents"
	jsonType      = "application/x-amz-json-1.1"
	logService    = "logs"   // the service name in the signature
	maxLogAnswer  = 64 << 20 // bytes of one answer that are read
	logPageEvents = 1000     // events asked for at once
)

// LogEvent is one log line, in the wire's own names.
type LogEvent struct {
	ID      string `json:"eventId"`
	Stream  string `json:"logStreamName"`
	Time    int64  `json:"timestamp"` // milliseconds since 1970
	Message string `json:"message"`   // usually ends with a line feed
}

type logQuery struct {
	Group     string `json:"logGroupName"`
	Since     int64  `json:"startTime,omitempty"` // milliseconds since 1970
	NextToken string `json:"nextToken,omitempty"`
	Limit     int    `json:"limit,omitempty"`
}

type logPage struct {
	Events    []LogEvent `json:"events"`
	NextToken string     `json:"nextToken"`
}

// Logs yields the events of a log group since a moment, oldest first, page by page. It stops at the first error. A group
// that does not exist is a ResourceNotFoundException (smithy.APIError).
func (c *Client) Logs(ctx context.Context, group string, since time.Time) iter.Seq2[LogEvent, error] {
	return func(yield func(LogEvent, error) bool) {
		query := logQuery{Group: group, Limit: logPageEvents}
		if !since.IsZero() {
			query.Since = max(since.UnixMilli(), 0)
		}
		for {
			page, err := c.filterLogEvents(ctx, query)
			if err != nil {
				yield(LogEvent{}, err)
				return
			}
			for _, event := range page.Events {
				if !yield(event, nil) {
					return
				}
			}
			if page.NextToken == "" || page.NextToken == query.NextToken {
				return
			}
			query.NextToken = page.NextToken
		}
	}
}

func (c *Client) filterLogEvents(ctx context.Context, query logQuery) (logPage, error) {
	body, err := json.Marshal(query)
	if err != nil {
		return logPage{}, fmt.Errorf("encoding a log query: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server.Endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return logPage{}, fmt.Errorf("asking for logs: %w", err)
	}
	req.Header.Set("Content-Type", jsonType)
	req.Header.Set("X-Amz-Target", filterTarget)
	resp, answer, err := c.send(req, logService, body, maxLogAnswer)
	if err != nil {
		return logPage{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return logPage{}, logError(resp, answer)
	}
	var page logPage
	if err := json.Unmarshal(answer, &page); err != nil {
		return logPage{}, fmt.Errorf("the server's answer to FilterLogEvents is not JSON: %w", err)
	}
	return page, nil
}

func (c *Client) sign(ctx context.Context, req *http.Request, service string, body []byte) error {
	creds, err := credentials(c.server)(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(sum[:]), service, c.server.Region, time.Now())
	if err != nil {
		return fmt.Errorf("signing a request: %w", err)
	}
	return nil
}

// logError turns an answer of AWS JSON 1.1 into the SDK's own kind of error: {"__type":"prefix#Code","message":…}.
func logError(resp *http.Response, answer []byte) error {
	var wire struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if json.Unmarshal(answer, &wire) != nil || wire.Type == "" {
		wire.Type = resp.Header.Get("X-Amzn-Errortype")
	}
	code := wire.Type[strings.LastIndexByte(wire.Type, '#')+1:]
	code, _, _ = strings.Cut(code, ":")
	if code == "" {
		code = "UnknownError"
	}
	if wire.Message == "" {
		wire.Message = "the server answered " + resp.Status
	}
	return &smithy.GenericAPIError{Code: code, Message: wire.Message}
}
