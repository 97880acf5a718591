package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"berth/store/jetstream"
)

// openEngine hosts the engine for all processes, alone or as a member of a cluster, or connects to it.
func openEngine(ctx context.Context, cfg Config, data *dataDir, name, token string, security *tls.Config) (*jetstream.Engine, error) {
	hosts, err := engineHosts(cfg.Engine)
	if err != nil {
		return nil, err
	}
	if !cfg.Roles.Engine {
		if cfg.EngineCluster != "" || len(cfg.EngineRoutes) > 0 {
			return nil, errors.New("--engine-cluster and --engine-routes are for processes with the role engine")
		}
		return jetstream.Connect(ctx, jetstream.Remote{URL: cfg.Engine, Token: token, TLS: security, Logger: cfg.Log})
	}
	if len(hosts) > 1 {
		return nil, fmt.Errorf("an engine listens on one address, not on %q: name the other members with --engine-routes", cfg.Engine)
	}
	own := jetstream.Config{Dir: data.join("engine"), Logger: cfg.Log, Listen: hosts[0], Token: token, TLS: security}
	if cfg.EngineCluster == "" && len(cfg.EngineRoutes) > 0 {
		return nil, errors.New("--engine-routes names the other members of the engine's cluster: say where this one listens for them with --engine-cluster HOST:PORT")
	}
	if cfg.EngineCluster != "" {
		if own.Cluster, err = engineCluster(cfg, name); err != nil {
			return nil, err
		}
	}
	return jetstream.Open(ctx, own)
}

// engineHosts reads nats://HOST:PORT, or several with commas.
func engineHosts(list string) ([]string, error) {
	var hosts []string
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(one)
		if err != nil || u.Scheme != "nats" || u.Port() == "" || u.User != nil {
			return nil, fmt.Errorf("the engine %q is not nats://HOST:PORT", one)
		}
		hosts = append(hosts, u.Host)
	}
	return hosts, nil
}

func engineCluster(cfg Config, name string) (*jetstream.Cluster, error) {
	c := &jetstream.Cluster{Name: name, Listen: strings.TrimPrefix(cfg.EngineCluster, "nats://")}
	if len(cfg.EngineRoutes) < 2 {
		return nil, errors.New("an engine's cluster has three members at least: name the others with --engine-routes HOST:PORT,HOST:PORT")
	}
	for _, route := range cfg.EngineRoutes {
		c.Routes = append(c.Routes, strings.TrimPrefix(route, "nats://"))
	}
	for _, addr := range append([]string{c.Listen}, c.Routes...) {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("%q among --engine-cluster and --engine-routes is not HOST:PORT: %w", addr, err)
		}
	}
	return c, nil
}
