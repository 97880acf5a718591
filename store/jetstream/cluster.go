package jetstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Cluster says how a server is a member of a cluster of three or five, each with a directory of its own. What is
// acknowledged then is on the disks of a majority of the three servers that have each stream.
type Cluster struct {
	Name   string   // of this member, always the same; "" keeps the directory's, which is random the first time
	Listen string   // host:port where the other members connect; port 0 takes a free one
	Routes []string // host:port of the other members' Listen
}

const (
	clusterName = "berth"
	routeUser   = "berth" // the password is the token

	replicas = 3

	// formTimeout is how long a member waits for a majority of the others. A cluster's first start needs three of them.
	formTimeout = 5 * time.Minute
	// streamTry bounds one try to open a stream: without a leader nobody answers.
	streamTry   = 2 * time.Second
	streamPause = 250 * time.Millisecond
	noticeAfter = 10 * time.Second
	reportEvery = 60 // tries, one a second, to reach a member that is away
)

// join makes the server of these options a member.
func (c *Cluster) join(options *server.Options, name string, config Config) error {
	host, port, err := freePort(c.Listen)
	if err != nil {
		return fmt.Errorf("the engine cannot listen on %s for the other members of its cluster: %w", c.Listen, err)
	}
	options.ServerName = name
	options.Cluster = server.ClusterOpts{
		Name: clusterName, Host: host, Port: port,
		Username: routeUser, Password: config.Token, AuthTimeout: tlsTimeout.Seconds(),
	}
	if config.TLS != nil {
		options.Cluster.TLSConfig, options.Cluster.TLSTimeout = config.TLS, tlsTimeout.Seconds()
	}
	options.ConnectErrorReports, options.ReconnectErrorReports = reportEvery, reportEvery
	for _, peer := range c.Routes {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats-route", User: url.UserPassword(routeUser, config.Token), Host: peer})
	}
	return nil
}

// clustered reports whether the connection is to a server of a cluster, ours or somebody else's.
func (e *Engine) clustered() bool { return e.conn.ConnectedClusterName() != "" }

// stream opens a stream, or makes it the first time. In a cluster it waits until there are enough servers.
func (e *Engine) stream(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	if e.clustered() {
		config.Replicas = replicas
	}
	began, told := time.Now(), false
	for {
		s, err := e.tryStream(ctx, config)
		if err == nil || !e.clustered() || !mayCome(err) {
			return s, err
		}
		if !told && time.Since(began) > noticeAfter {
			told = true
			e.log.Warn("waiting for the other servers of the engine's cluster: a majority must run, and at the first start three", "stream", config.Name, "err", err)
		}
		select {
		case <-time.After(streamPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("the engine's cluster is not complete, a majority of its servers must run (%w): %w", ctx.Err(), err)
		}
	}
}

func (e *Engine) tryStream(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, streamTry)
	defer cancel()
	s, err := e.js.Stream(ctx, config.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		s, err = e.js.CreateStream(ctx, config)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", config.Name, err)
	}
	return s, nil
}

// formingCodes are what a cluster answers that is not complete yet, beside retryCodes.
var formingCodes = []int{
	10005, // no suitable peers for placement: fewer than three servers
	10023, // insufficient resources
	10039, // JetStream is not enabled for the account, yet
	10074, // replicas > 1 not supported: no cluster yet
	10118, // the stream is offline
}

// mayCome tells failures that end when the cluster is complete.
func mayCome(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return slices.Contains(retryCodes, int(api.ErrorCode)) || slices.Contains(formingCodes, int(api.ErrorCode))
	}
	for _, known := range []error{context.DeadlineExceeded, nats.ErrNoResponders, nats.ErrTimeout, jetstream.ErrJetStreamNotEnabled,
		jetstream.ErrNoStreamResponse} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
