package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/smithy-go"
)

// maxOwnDocument bounds an answer of Berth's own paths, in bytes: 100,000 schedules.
const maxOwnDocument = 64 << 20

// own makes a request to one of Berth's own paths. in is sent as JSON unless it is nil; of the answer at most limit bytes are
// read, as JSON into out unless that is nil. A refusal is a smithy.APIError.
func (c *Client) own(ctx context.Context, method, path string, in, out any, limit int64) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.server.Endpoint+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	resp, answer, err := c.send(req, "lambda", body, limit)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		var wire struct{ Message string }
		if json.Unmarshal(answer, &wire) != nil || wire.Message == "" {
			wire.Message = "the server answered " + resp.Status
		}
		return &smithy.GenericAPIError{Code: resp.Header.Get("X-Amzn-Errortype"), Message: wire.Message}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the server's answer is not JSON: %w", err)
	}
	return nil
}

// send signs a request for a service and sends it. Of the answer it reads at most limit bytes; its body is closed.
func (c *Client) send(req *http.Request, service string, body []byte, limit int64) (*http.Response, []byte, error) {
	if err := c.sign(req.Context(), req, service, body); err != nil {
		return nil, nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("asking the server: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, limit))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the server's answer: %w", err)
	}
	return resp, answer, nil
}
