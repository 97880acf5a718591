package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/nats-io/nats.go"

	"berth/apiserver"
	"berth/catalog"
	"berth/destinations"
	"berth/events"
	"berth/frontend"
	"berth/lambda"
	"berth/store"
	"berth/store/jetstream"
)

// startEvents starts what runs asynchronous invocations and schedules, and reads event sources while elected.
func startEvents(cfg Config, l *lifecycle, engine *jetstream.Engine, cat *catalog.Catalog, invoker events.Invoker, elected func() bool) (*events.Poller, error) {
	targets, err := destinations.New(destinations.Config{
		Endpoints: cfg.AWSEndpoints, Region: cfg.Region, Credentials: credentialsOf(os.Getenv), Conn: engine.Conn(),
	})
	if err != nil {
		return nil, err
	}
	l.onStop("connections to destinations", func(context.Context) error { targets.Close(); return nil })
	poller := events.New(events.Config{Queue: engine.Queue(), Catalog: cat, Invoker: invoker, Targets: targets, Log: cfg.Log})
	if err := serveCounts(engine.Conn(), poller); err != nil {
		return nil, err
	}
	l.run("events", poller.Run)
	l.run("schedules", events.NewScheduler(engine.Queue(), cat, cfg.Log).Run)
	return poller, startSources(cfg, l, cat, invoker, elected)
}

// startMemberEvents is startEvents for one process of several, if it has the control role; nil without. invoker is the process's
// data path; without the frontend role (nil) the process gets the client side of it for its events alone.
func startMemberEvents(cfg Config, l *lifecycle, engine *jetstream.Engine, c *cluster, invoker events.Invoker) (*events.Poller, error) {
	switch {
	case !cfg.Roles.Control && invoker == nil:
		return nil, startMetrics(cfg, l, counted{}, nil, nil, engine)
	case !cfg.Roles.Control:
		return nil, nil
	case invoker != nil:
		return startEvents(cfg, l, engine, c.catalog, invoker, c.control.Elected)
	}
	f := frontend.New(frontend.Config{
		Token:   c.tokens.Token,
		Catalog: c.catalog, Manager: c.frontendManager, Worker: c.frontendWorker, Rings: c.Rings, Limit: c.Limit,
		Peers:  &peers{id: c.id, conn: engine.Conn(), view: c.members.View},
		Trials: newTrials(l, engine.Conn(), c.versions(), cfg.Log),
	})
	l.run("data path for events", f.Run)
	calls := newCounted(cfg, f)
	poller, err := startEvents(cfg, l, engine, c.catalog, calls.invoker, c.control.Elected)
	if err != nil {
		return nil, err
	}
	return poller, startMetrics(cfg, l, calls, nil, poller, engine)
}

// credentialsOf reads AWS credentials as every client of AWS does; nil without.
func credentialsOf(getenv func(string) string) aws.CredentialsProvider {
	id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	if id == "" || secret == "" {
		return nil
	}
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret, SessionToken: getenv("AWS_SESSION_TOKEN"), Source: "environment"}, nil
	})
}

// countsSubject is where processes that run events are asked how many they run and have dropped, on core messages of the engine.
const countsSubject = "berth.events-counts"

// Limits of asking.
const (
	countsLimit      = 300 * time.Millisecond // for the answers of other processes
	maxCountsMessage = 16 << 10               // bytes
)

// serveCounts answers for this process. The subscription ends with the connection.
func serveCounts(conn *nats.Conn, p *events.Poller) error {
	_, err := conn.Subscribe(countsSubject, func(m *nats.Msg) {
		l := store.Lane(m.Data)
		if store.CheckLane(l) != nil {
			return
		}
		if data, err := json.Marshal(p.Counts(l)); err == nil {
			_ = m.Respond(data) // who gets no answer shows what the others said
		}
	})
	if err != nil {
		return fmt.Errorf("answering for events: %w", err)
	}
	return nil
}

// eventsFace is what the API sees of events.
type eventsFace struct {
	*events.Inbox
	engine *jetstream.Engine
	own    *events.Poller // nil: other processes run the events
}

func newEventsFace(engine *jetstream.Engine, own *events.Poller) *eventsFace {
	return &eventsFace{events.NewInbox(engine.Queue()), engine, own}
}

// Status implements apiserver.Events.
func (f *eventsFace) Status(ctx context.Context, account lambda.AccountID, function string) (apiserver.EventStatus, error) {
	lanes := events.Lanes(catalog.ID{Account: account, Name: function})
	var depth store.Depth
	for _, lane := range lanes {
		one, err := f.engine.Queue().Depth(ctx, lane)
		if err != nil {
			return apiserver.EventStatus{}, err
		}
		depth.Held, depth.Delivered = depth.Held+one.Held, depth.Delivered+one.Delivered
	}
	counts, partial := f.counts(ctx, lanes[0])
	running := min(counts.Running, depth.Held)
	return apiserver.EventStatus{
		InFlight: running, Retrying: max(depth.Delivered-running, 0), Queued: depth.Held - max(depth.Delivered, running),
		Dropped: counts.Dropped, Partial: partial,
	}, nil
}

// counts adds up what all processes say. Alone, this process knows; else it asks for as long as the slowest may take, since
// nobody knows how many there are.
func (f *eventsFace) counts(ctx context.Context, lane store.Lane) (sum events.Counts, partial bool) {
	if f.own != nil && f.engine.URL() == "" && f.engine.Hosts() {
		return f.own.Counts(lane), false
	}
	sum = events.Counts{Dropped: map[string]int{}}
	ctx, cancel := context.WithTimeout(ctx, countsLimit)
	defer cancel()
	conn := f.engine.Conn()
	answers, err := conn.SubscribeSync(conn.NewInbox())
	if err != nil {
		return sum, true
	}
	defer func() { _ = answers.Unsubscribe() }() // it fails when the connection is closed, which does the same
	if err := conn.PublishRequest(countsSubject, answers.Subject, []byte(lane)); err != nil {
		return sum, true
	}
	for {
		m, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			return sum, ctx.Err() == nil
		}
		var one events.Counts
		if len(m.Data) > maxCountsMessage || json.Unmarshal(m.Data, &one) != nil || one.Running < 0 {
			partial = true
			continue
		}
		sum.Running += one.Running
		for reason := range maps.Keys(one.Dropped) {
			sum.Dropped[reason] += one.Dropped[reason]
		}
	}
}
