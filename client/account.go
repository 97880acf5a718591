package client

import (
	"context"
	"net/http"
)

const (
	accountPath      = "/berth/v1/account"
	maxAccountAnswer = 64 << 10 // bytes
)

// Account is the limits of the caller's account.
type Account struct {
	Account     string `json:"account"`
	Concurrency int    `json:"concurrency"` // executions at once, of all functions together
	Reserved    int    `json:"reserved"`    // of these, for functions with reserved concurrency
	Provisioned int    `json:"provisioned"` // of these, provisioned for functions without
	Unreserved  int    `json:"unreserved"`  // the rest
}

// Account returns the limits of the caller's account.
func (c *Client) Account(ctx context.Context) (out Account, err error) {
	err = c.own(ctx, http.MethodGet, accountPath, nil, &out, maxAccountAnswer)
	return out, err
}

// SetConcurrency sets how many executions of the caller's account may run at once.
func (c *Client) SetConcurrency(ctx context.Context, n int) (out Account, err error) {
	err = c.own(ctx, http.MethodPut, accountPath, map[string]int{"concurrency": n}, &out, maxAccountAnswer)
	return out, err
}
