package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

const runtimesPath = "/berth/v1/runtimes"

// HostRuntime is the version that stands for what the workers themselves have installed.
const HostRuntime = "host"

// Runtime is a runtime with its versions.
type Runtime struct {
	Name      string           `json:"name"`
	Releases  []RuntimeRelease `json:"releases"`            // the oldest first
	Current   string           `json:"current"`             // the ID of a release, or HostRuntime
	Candidate string           `json:"candidate,omitempty"` // likewise, while a rollout tries it
	Installed string           `json:"installed,omitempty"` // what HostRuntime means now; "" when no worker has the runtime
}

// RuntimeRelease is one version of a runtime.
type RuntimeRelease struct {
	ID         string    `json:"id"`
	Number     int       `json:"number"`
	Source     string    `json:"source"`
	Bytes      int64     `json:"bytes"`
	Added      time.Time `json:"added"`
	Deprecated bool      `json:"deprecated,omitempty"`
}

// RuntimeChange says what is to become of a runtime: From names an image to make a version of, Version one that is there.
type RuntimeChange struct {
	From      string `json:"from,omitempty"`
	Version   string `json:"version,omitempty"`
	Publish   bool   `json:"publish,omitempty"`   // functions move to it
	Candidate bool   `json:"candidate,omitempty"` // a rollout tries it

	Deprecated *bool `json:"deprecated,omitempty"` // of Version: nothing is to move to it any more, or again
}

// Runtimes lists the runtimes by name.
func (c *Client) Runtimes(ctx context.Context) (all []Runtime, err error) {
	err = c.own(ctx, http.MethodGet, runtimesPath, nil, &all, maxOwnDocument)
	return all, err
}

// Runtime returns one runtime.
func (c *Client) Runtime(ctx context.Context, name string) (out Runtime, err error) {
	err = c.own(ctx, http.MethodGet, runtimesPath+"/"+url.PathEscape(name), nil, &out, maxOwnDocument)
	return out, err
}

// ChangeRuntime adds a version or moves to one. A large image takes as long as its registry does.
func (c *Client) ChangeRuntime(ctx context.Context, name string, change RuntimeChange) (out Runtime, err error) {
	err = c.own(ctx, http.MethodPost, runtimesPath+"/"+url.PathEscape(name), change, &out, maxOwnDocument)
	return out, err
}
