package image

import (
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
	answerLimit = 30 * time.Second // for a registry to begin an answer; the body may take as long as the caller waits
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
		DialContext:           (&net.Dialer{Timeout: dialLimit}).DialContext,
		TLSHandshakeTimeout:   dialLimit,
		ResponseHeaderTimeout: answerLimit,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       answerLimit,
	}}
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
