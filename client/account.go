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
func (c *Client) Account(ctx context.Context) (Account, error) {
	return c.account(ctx, http.MethodGet, nil)
}

// SetConcurrency sets how many executions of the caller's account may run at once.
func (c *Client) SetConcurrency(ctx context.Context, n int) (Account, error) {
	return c.account(ctx, http.MethodPut, fmt.Appendf(nil, `{"concurrency":%d}`, n))
}

func (c *Client) account(ctx context.Context, method string, body []byte) (Account, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.server.Endpoint+accountPath, bytes.NewReader(body))
	if err != nil {
		return Account{}, fmt.Errorf("asking for the account: %w", err)
	}
	if err := c.sign(ctx, req, "lambda", body); err != nil {
		return Account{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return Account{}, fmt.Errorf("asking for the account: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAccountAnswer))
	if err != nil {
		return Account{}, fmt.Errorf("reading the account: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var wire struct{ Message string }
		if json.Unmarshal(answer, &wire) != nil || wire.Message == "" {
			wire.Message = "the server answered " + resp.Status
		}
		return Account{}, &smithy.GenericAPIError{Code: resp.Header.Get("X-Amzn-Errortype"), Message: wire.Message}
	}
	var account Account
	if err := json.Unmarshal(answer, &account); err != nil {
		return Account{}, fmt.Errorf("the server's answer about the account is not JSON: %w", err)
	}
	return account, nil
}
