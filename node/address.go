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
	if !cfg.DevCredentials || !cfg.alone() && !cfg.Roles.Frontend {
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

// listenInternal opens the address that this process tells the others, so it must be one that means something to them.
func listenInternal(addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("the address %q for --listen-internal is not host:port: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return nil, fmt.Errorf("other processes are told the address of --listen-internal, so it must name one of this machine's, not %q", addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening on %s (--listen-internal) for other processes: %w", addr, err)
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
func writeClientFile(cfg Config, data *dataDir, url string, key lambda.AccessKey, runtimes []string) error {
	return clientfile.Save(data.path, clientfile.File{
		Endpoint: url, AccessKeyID: key.ID, SecretAccessKey: key.Secret, Account: key.Account, Region: cfg.Region, Runtimes: runtimes,
	})
}

func runtimeNames(set *runtimes.Set) []string {
	var names []string
	for _, r := range set.All() {
		names = append(names, r.Name)
	}
	return names
}
