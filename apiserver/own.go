package apiserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"berth/lambda"
	"berth/store"
)

// Berth's own paths beside the Lambda API. Those of accounts, events and schedules ask for a signature.
const (
	ownPrefix  = "/berth/"
	healthPath = ownPrefix + "health"
	codePath   = ownPrefix + "code/"
	// linkLifetime is how long a Code.Location works (API reference, FunctionCodeLocation).
	linkLifetime = 10 * time.Minute
)

// serveOwn answers the liveness path and code downloads.
func (s *Server) serveOwn(c *call) error {
	if c.r.URL.Path == accountPath {
		return s.serveAccount(c)
	}
	if isKeysPath(c.r.URL.Path) {
		return s.serveKeys(c)
	}
	if isRuntimesPath(c.r.URL.Path) {
		return s.serveRuntimes(c)
	}
	if isEventsPath(c.r.URL.Path) {
		return s.serveEvents(c)
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		return lambda.Errorf(lambda.UnknownOperation, "%s %s does not exist; use GET.", c.r.Method, c.r.URL.Path)
	}
	if c.r.URL.Path == healthPath {
		c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, err := io.WriteString(c.w, "ok\n")
		return err
	}
	if digest, ok := strings.CutPrefix(c.r.URL.Path, codePath); ok {
		return s.serveCode(c, lambda.CodeDigest(digest))
	}
	return lambda.Errorf(lambda.UnknownOperation, "%s does not exist.", c.r.URL.Path)
}

// codeLink returns a link to a version's zip, on the address under which the client reached this server.
func (s *Server) codeLink(r *http.Request, digest lambda.CodeDigest) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	expires := strconv.FormatInt(time.Now().Add(linkLifetime).Unix(), 10)
	link := url.URL{Scheme: scheme, Host: r.Host, Path: codePath + string(digest),
		RawQuery: "Expires=" + expires + "&Signature=" + s.linkSignature(digest, expires)}
	return link.String()
}

// linkSignature proves that this server gave out a link. The separator cannot be in a digest.
func (s *Server) linkSignature(digest lambda.CodeDigest, expires string) string {
	mac := hmac.New(sha256.New, s.cfg.LinkKey)
	mac.Write([]byte(string(digest) + "\n" + expires))
	return hex.EncodeToString(mac.Sum(nil))
}

// serveCode answers a download with the zip.
func (s *Server) serveCode(c *call, digest lambda.CodeDigest) error {
	query := c.r.URL.Query()
	expires := query.Get("Expires")
	if !hmac.Equal([]byte(query.Get("Signature")), []byte(s.linkSignature(digest, expires))) {
		return lambda.Errorf(lambda.AccessDenied, "The link's signature does not match. Ask GetFunction for a new one.")
	}
	if at, err := strconv.ParseInt(expires, 10, 64); err != nil || time.Now().Unix() > at {
		return lambda.Errorf(lambda.AccessDenied, "The link has expired. Ask GetFunction for a new one.")
	}
	zip, err := s.cfg.Blobs.Open(c.r.Context(), digest)
	if errors.Is(err, store.ErrNotFound) {
		return lambda.Errorf(lambda.ResourceNotFound, "The resource you requested does not exist.")
	}
	if err != nil {
		return err
	}
	defer zip.Close()
	c.w.Header().Set("Content-Type", "application/zip")
	if _, err := io.Copy(c.w, zip); err != nil {
		s.log.WarnContext(c.r.Context(), "download of code broke off", "id", c.id, "digest", digest, "err", err)
		panic(http.ErrAbortHandler) // a half zip must not look whole
	}
	return nil
}
