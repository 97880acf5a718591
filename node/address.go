package node

import (
	"errors"
	"fmt"
	"net"
	"syscall"

	"berth/clientfile"
	"berth/lambda"
	"berth/runtimes"
)

// checkAddress refuses to let everybody who reaches this machine run code on it.
func checkAddress(cfg Config) error {
	if !cfg.DevCredentials {
		return nil
	}
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return fmt.Errorf("the address %q is not host:port: %w", cfg.Addr, err)
	}
	ip := net.ParseIP(host)
	if host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("development credentials accept any signature, so the address must be a loopback one such as 127.0.0.1:9000, not %s", cfg.Addr)
	}
	return nil
}

func listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("something listens on %s already: stop it, or choose another address with --addr: %w", addr, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", addr, err)
	}
	return l, nil
}

// ignoreClosed: the HTTP server closes the listener first when it got that far.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// writeClientFile tells the client commands on this machine where the server is and with which key to sign.
func writeClientFile(cfg Config, data *dataDir, url string, key lambda.AccessKey, set *runtimes.Set) error {
	file := clientfile.File{
		Endpoint: url, AccessKeyID: key.ID, SecretAccessKey: key.Secret, Account: key.Account, Region: cfg.Region,
	}
	for _, r := range set.All() {
		file.Runtimes = append(file.Runtimes, r.Name)
	}
	return clientfile.Save(data.path, file)
}
