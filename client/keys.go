package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

const (
	accountsPath = "/berth/v1/accounts"
	keysPath     = "/berth/v1/keys"
)

// AccountEntry is one of the server's accounts.
type AccountEntry struct {
	Account     string `json:"account"`
	Functions   int    `json:"functions"`
	Keys        int    `json:"keys"`
	Concurrency int    `json:"concurrency"`
}

// Key is an access key. Secret is in CreateKey's answer only.
type Key struct {
	ID      string          `json:"accessKeyId"`
	Secret  string          `json:"secretAccessKey,omitempty"`
	Account string          `json:"account"`
	User    string          `json:"user,omitempty"` // "" is the account's root
	ARN     string          `json:"arn"`
	Policy  json.RawMessage `json:"policy,omitempty"` // nil: everything in its account
	Created time.Time       `json:"created,omitzero"`
}

// Accounts lists the server's accounts. It needs a key of the account that manages the server.
func (c *Client) Accounts(ctx context.Context) ([]AccountEntry, error) {
	var out struct{ Accounts []AccountEntry }
	err := c.own(ctx, http.MethodGet, accountsPath, nil, &out, maxOwnDocument)
	return out.Accounts, err
}

// CreateAccount makes an account; "" takes a random number.
func (c *Client) CreateAccount(ctx context.Context, account string) (out AccountEntry, err error) {
	err = c.own(ctx, http.MethodPost, accountsPath, map[string]string{"account": account}, &out, maxOwnDocument)
	return out, err
}

// DeleteAccount deletes an account that owns nothing any more, with its keys.
func (c *Client) DeleteAccount(ctx context.Context, account string) error {
	return c.own(ctx, http.MethodDelete, accountsPath+"/"+url.PathEscape(account), nil, nil, maxOwnDocument)
}

// Keys lists the access keys of an account, "" for the caller's own, without their secrets.
func (c *Client) Keys(ctx context.Context, account string) ([]Key, error) {
	path := keysPath
	if account != "" {
		path += "?account=" + url.QueryEscape(account)
	}
	var out struct{ Keys []Key }
	err := c.own(ctx, http.MethodGet, path, nil, &out, maxOwnDocument)
	return out.Keys, err
}

// Key returns one access key without its secret.
func (c *Client) Key(ctx context.Context, id string) (out Key, err error) {
	err = c.own(ctx, http.MethodGet, keysPath+"/"+url.PathEscape(id), nil, &out, maxOwnDocument)
	return out, err
}

// CreateKey makes an access key. account "" is the caller's own, user "" its root, policy nil allows everything in it.
func (c *Client) CreateKey(ctx context.Context, account, user string, policy json.RawMessage) (out Key, err error) {
	in := map[string]any{"account": account, "user": user}
	if policy != nil {
		in["policy"] = policy
	}
	err = c.own(ctx, http.MethodPost, keysPath, in, &out, maxOwnDocument)
	return out, err
}

// DeleteKey deletes an access key; requests signed with it are refused from then on.
func (c *Client) DeleteKey(ctx context.Context, id string) error {
	return c.own(ctx, http.MethodDelete, keysPath+"/"+url.PathEscape(id), nil, nil, maxOwnDocument)
}
