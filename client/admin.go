package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/aws/smithy-go"

	"berth/admin"
)

// maxAdminAnswer bounds an answer to an operator, in bytes.
const maxAdminAnswer = 16 << 20

// Cluster returns the state of the server's processes.
func (c *Client) Cluster(ctx context.Context) (admin.Status, error) {
	var s admin.Status
	err := c.operate(ctx, http.MethodGet, admin.ClusterPath, nil, &s)
	return s, err
}

// Rings returns the ring versions that are kept, newest first.
func (c *Client) Rings(ctx context.Context) ([]admin.Ring, error) {
	var r admin.Rings
	err := c.operate(ctx, http.MethodGet, admin.RingsPath, nil, &r)
	return r.Rings, err
}

// DeployRing makes a ring version.
func (c *Client) DeployRing(ctx context.Context, what admin.Deploy) (admin.Ring, error) {
	var r admin.Ring
	err := c.operate(ctx, http.MethodPost, admin.RingsPath, what, &r)
	return r, err
}

// RollBackRing makes a ring version like an earlier one.
func (c *Client) RollBackRing(ctx context.Context, what admin.Rollback) (admin.Ring, error) {
	var r admin.Ring
	err := c.operate(ctx, http.MethodPost, admin.RollbackPath, what, &r)
	return r, err
}

// Rollouts returns the last rollout of every runtime.
func (c *Client) Rollouts(ctx context.Context) ([]admin.Rollout, error) {
	var r admin.Rollouts
	err := c.operate(ctx, http.MethodGet, admin.RolloutsPath, nil, &r)
	return r.Rollouts, err
}

// Rollout returns a runtime's last rollout, with at most n functions' evidence.
func (c *Client) Rollout(ctx context.Context, runtime string, n int) (admin.RolloutDetail, error) {
	var r admin.RolloutDetail
	err := c.operate(ctx, http.MethodGet, fmt.Sprintf("%s/%s?limit=%d", admin.RolloutsPath, url.PathEscape(runtime), n), nil, &r)
	return r, err
}

// ChangeRollout pauses, resumes or aborts a runtime's rollout: admin.PauseRollout …
func (c *Client) ChangeRollout(ctx context.Context, runtime, action string) (admin.Rollout, error) {
	var r admin.Rollout
	err := c.operate(ctx, http.MethodPost, admin.RolloutsPath+"/"+url.PathEscape(runtime), admin.RolloutAction{Action: action}, &r)
	return r, err
}

// operate sends a request of package admin and reads its answer into out.
func (c *Client) operate(ctx context.Context, method, path string, in, out any) error {
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
	if err := c.sign(ctx, req, "lambda", body); err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminAnswer))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct{ Message string }
		if json.Unmarshal(answer, &refusal) != nil || refusal.Message == "" {
			refusal.Message = "the server answered " + resp.Status
		}
		return &smithy.GenericAPIError{Code: resp.Header.Get("X-Amzn-Errortype"), Message: refusal.Message}
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("the server's answer is not JSON: %w", err)
	}
	return nil
}
