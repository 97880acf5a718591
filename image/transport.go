package image

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	dialLimit   = 10 * time.Second
	answerLimit = 30 * time.Second // for a registry to begin an answer
	stallLimit  = time.Minute      // without a byte of an answer
)

// errPlain: a registry wanted to be asked without TLS.
var errPlain = errors.New("plain HTTP is not allowed for this host")

// guarded is the HTTP transport to one registry. The registry's client falls back to plain HTTP for whole networks; here only
// hosts that were allowed get it, wherever a redirect leads. Manifests are bounded.
type guarded struct {
	http.RoundTripper
	plain []string
}

func newTransport(registry string, plain []string) http.RoundTripper {
	if loopback(registry) {
		plain = append(slices.Clip(plain), registry)
	}
	return &guarded{plain: plain, RoundTripper: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dial,
		TLSHandshakeTimeout:   dialLimit,
		ResponseHeaderTimeout: answerLimit,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       answerLimit,
	}}
}

// restless is a connection whose reads end when nothing comes: an answer may take long, but not stand still.
type restless struct{ net.Conn }

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return restless{conn}, nil
}

func (r restless) Read(p []byte) (int, error) {
	if err := r.SetReadDeadline(time.Now().Add(stallLimit)); err != nil {
		return 0, err
	}
	return r.Conn.Read(p)
}

// RoundTrip implements http.RoundTripper.
func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !slices.Contains(g.plain, r.URL.Host) && !slices.Contains(g.plain, r.URL.Hostname()) {
		return nil, errPlain
	}
	resp, err := g.RoundTripper.RoundTrip(r)
	if err == nil && !strings.Contains(r.URL.Path, "/blobs/") {
		resp.Body = &shortBody{resp.Body, maxDocument}
	}
	return resp, err
}

// shortBody ends in an error past its bound.
type shortBody struct {
	io.ReadCloser
	left int
}

func (b *shortBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, refuse("its manifest is larger than %d bytes.", maxDocument)
	}
	return n, err
}

// loopback reports whether a registry (HOST or HOST:PORT) is on this machine.
func loopback(registry string) bool {
	host := registry
	if h, _, err := net.SplitHostPort(registry); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}
