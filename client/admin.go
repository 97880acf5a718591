package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"berth/admin"
)

// maxAdminAnswer bounds an answer to an operator, in bytes.
const maxAdminAnswer = 16 << 20

// Cluster returns the state of the server's processes.
func (c *Client) Cluster(ctx context.Context) (admin.Status, error) {
	var s admin.Status
	err := c.own(ctx, http.MethodGet, admin.ClusterPath, nil, &s, maxAdminAnswer)
	return s, err
}

// Rings returns the ring versions that are kept, newest first.
func (c *Client) Rings(ctx context.Context) ([]admin.Ring, error) {
	var r admin.Rings
	err := c.own(ctx, http.MethodGet, admin.RingsPath, nil, &r, maxAdminAnswer)
	return r.Rings, err
}

// DeployRing makes a ring version.
func (c *Client) DeployRing(ctx context.Context, what admin.Deploy) (admin.Ring, error) {
	var r admin.Ring
	err := c.own(ctx, http.MethodPost, admin.RingsPath, what, &r, maxAdminAnswer)
	return r, err
}

// RollBackRing makes a ring version like an earlier one.
func (c *Client) RollBackRing(ctx context.Context, what admin.Rollback) (admin.Ring, error) {
	var r admin.Ring
	err := c.own(ctx, http.MethodPost, admin.RollbackPath, what, &r, maxAdminAnswer)
	return r, err
}

// Rollouts returns the last rollout of every runtime.
func (c *Client) Rollouts(ctx context.Context) ([]admin.Rollout, error) {
	var r admin.Rollouts
	err := c.own(ctx, http.MethodGet, admin.RolloutsPath, nil, &r, maxAdminAnswer)
	return r.Rollouts, err
}

// Rollout returns a runtime's last rollout, with at most n functions' evidence.
func (c *Client) Rollout(ctx context.Context, runtime string, n int) (admin.RolloutDetail, error) {
	var r admin.RolloutDetail
	err := c.own(ctx, http.MethodGet, fmt.Sprintf("%s/%s?limit=%d", admin.RolloutsPath, url.PathEscape(runtime), n), nil, &r, maxAdminAnswer)
	return r, err
}

// ChangeRollout pauses, resumes or aborts a runtime's rollout: admin.PauseRollout …
func (c *Client) ChangeRollout(ctx context.Context, runtime, action string) (admin.Rollout, error) {
	var r admin.Rollout
	err := c.own(ctx, http.MethodPost, admin.RolloutsPath+"/"+url.PathEscape(runtime), admin.RolloutAction{Action: action}, &r, maxAdminAnswer)
	return r, err
}
