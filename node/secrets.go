package node

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Sizes of a cluster token, in bytes of text.
const (
	minToken = 16
	maxToken = 1024
)

// clusterToken reads the secret that all processes of a cluster share. Who hosts the engine makes it if it is not there.
func clusterToken(path string, host bool) (string, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && host:
		return newClusterToken(path)
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("the cluster token %s is not there: copy the engine's, and name it with --cluster-token-file", path)
	case err != nil:
		return "", fmt.Errorf("reading the cluster token: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("reading the cluster token: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return "", fmt.Errorf("the cluster token %s has mode %04o, so others may know it: run `chmod 600 %s`", path, perm, path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxToken+2))
	if err != nil {
		return "", fmt.Errorf("reading the cluster token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if len(token) < minToken || len(token) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("the cluster token %s must be one line of %d to %d visible ASCII characters", path, minToken, maxToken)
	}
	return token, nil
}

// newClusterToken makes the file in one step, so that nobody reads half of it.
func newClusterToken(path string) (string, error) {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	token := hex.EncodeToString(random)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("making the cluster token: %w", err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("making the cluster token: %w", err), os.Remove(path))
	}
	return token, nil
}

// TLSFiles are the PEM files of mutual TLS between processes: this one's certificate and key, and the authority that signed
// everybody's. All or none.
type TLSFiles struct{ Cert, Key, CA string }

// config returns nil when no files are given. Both ends of a connection show a certificate and check the other's.
func (f TLSFiles) config() (*tls.Config, error) {
	if f == (TLSFiles{}) {
		return nil, nil
	}
	if f.Cert == "" || f.Key == "" || f.CA == "" {
		return nil, errors.New("mutual TLS needs all of --tls-cert, --tls-key and --tls-ca")
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("the certificate for other processes: %w", err)
	}
	authority, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("the certificate authority for other processes: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", f.CA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		RootCAs:      pool,
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS13,
	}, nil
}
