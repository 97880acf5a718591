package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"berth/catalog"
	"berth/control"
	"berth/destinations"
	"berth/events"
	"berth/lambda"
	"berth/rollout"
	"berth/store"
)

// countedSubject carries what processes counted of trials, as core messages of the engine.
const countedSubject = "berth.rollout-counts"

// Times and sizes of these reports.
const (
	countedEvery = time.Second
	// countedAll is after how many reports one lists every trial, also those without news: a control process that has just
	// been elected hears of all.
	countedAll = 10
	// countedPage is how many trials one message lists, of 2 KB at most each; maxCounted bounds a message that is read.
	countedPage = 100
	maxCounted  = 1 << 20
)

// countedMessage is what one process says.
type countedMessage struct {
	Source  string            `json:"source"`
	Counted []rollout.Counted `json:"counted"`
}

// newTrials makes what draws and counts in this process, and starts its reports.
func newTrials(l *lifecycle, conn *nats.Conn, v versions, log *slog.Logger) *trials {
	t := &trials{versions: v, recorder: rollout.NewRecorder()}
	source := time.Now().UTC().Format("20060102T150405.000") + "-" + uuid.NewString()
	l.run("trial counts", func(ctx context.Context) error {
		tick := time.NewTicker(countedEvery)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-tick.C:
				t.report(conn, source, n%countedAll == 0, log)
			case <-ctx.Done():
				t.report(conn, source, true, log) // the last word
				return nil
			}
		}
	})
	return t
}

// report sends what there is. What is lost comes again with a later report.
func (t *trials) report(conn *nats.Conn, source string, all bool, log *slog.Logger) {
	counted := t.recorder.Report(all, func(of *rollout.Trial) bool {
		record, _, ok := t.versions.catalog.Trial(catalog.TrialOf{ID: catalog.ID{Account: of.Account, Name: of.Function}, Number: of.Number})
		return ok && record.ID == of.ID
	})
	for len(counted) > 0 {
		n := min(countedPage, len(counted))
		data, err := json.Marshal(countedMessage{source, counted[:n]})
		if err == nil {
			err = conn.Publish(countedSubject, data)
		}
		if err != nil {
			log.Debug("what was counted of trials could not be reported", "err", err)
		}
		counted = counted[n:]
	}
}

// rolloutTask is the background work of rollouts.
func rolloutTask(cfg Config, conn *nats.Conn, cat *catalog.Catalog, queue store.Queue) control.Task {
	log := cfg.Log.With("part", "rollouts")
	return control.Rollouts(control.RolloutConfig{
		Catalog: cat, Plan: rollout.NewPlan(cfg.RolloutPace, cfg.RolloutCalls...), Log: log,
		Counts: func(receive func(string, []rollout.Counted)) (func(), error) {
			s, err := conn.Subscribe(countedSubject, func(m *nats.Msg) {
				var heard countedMessage
				if len(m.Data) <= maxCounted && json.Unmarshal(m.Data, &heard) == nil {
					receive(heard.Source, heard.Counted)
				}
			})
			if err != nil {
				return nil, fmt.Errorf("listening to what was counted of trials: %w", err)
			}
			return func() { _ = s.Unsubscribe() }, nil // it fails when the connection is closed, which does the same
		},
		Notify: (&noticeOffice{cat, events.NewInbox(queue), log}).notify,
	})
}

// noticeTag is the tag with which a function's owner says where notices go: the ARN of a destination.
const noticeTag = "berth:rollout-notice"

// noticeOffice tells owners of functions.
type noticeOffice struct {
	catalog *catalog.Catalog
	inbox   *events.Inbox
	log     *slog.Logger
}

// noticeRecord is the JSON that a destination gets.
type noticeRecord struct {
	Version     string          `json:"version"`
	Type        string          `json:"type"`
	Timestamp   time.Time       `json:"timestamp"`
	FunctionARN string          `json:"functionArn"`
	Runtime     string          `json:"runtime"`
	From        string          `json:"fromRuntimeVersionArn"`
	To          string          `json:"toRuntimeVersionArn"`
	Verdict     rollout.Verdict `json:"verdict"`
	Reason      string          `json:"reason"`
	Old         rollout.Group   `json:"oldVersionCalls"`
	New         rollout.Group   `json:"newVersionCalls"`
}

func (o *noticeOffice) notify(ctx context.Context, n *control.Notice) error {
	f, ok := o.catalog.Function(n.Of.ID)
	target := ""
	if ok {
		target = f.Tags[noticeTag]
	}
	if target == "" {
		return control.ErrNobodyToTell
	}
	parsed, err := destinations.Parse(target)
	if err == nil && parsed.Kind == destinations.Lambda && parsed.Account != string(n.Of.Account) {
		err = errors.New("a function that is told must be of the same account")
	}
	if err != nil {
		o.log.Warn("a function's owner cannot be told of a verdict", "account", n.Of.Account, "function", n.Of.Name, "tag", noticeTag, "err", err)
		return control.ErrNobodyToTell
	}
	region := o.catalog.Region()
	record, err := json.Marshal(noticeRecord{
		Version: "1.0", Type: "berth.rollout.verdict", Timestamp: n.At, Runtime: n.Runtime, Verdict: n.Verdict, Reason: n.Reason,
		FunctionARN: lambda.FunctionARN(region, n.Of.Account, n.Of.Name) + ":" + n.Of.Number,
		From:        n.From.ARN(region), To: n.To.ARN(region), Old: n.Evidence.Sum(rollout.Old), New: n.Evidence.Sum(rollout.New),
	})
	if err != nil {
		return err
	}
	return o.inbox.Tell(ctx, &events.Notice{
		ID: n.ID, Account: n.Of.Account, Region: region, Function: n.Of.Name, Target: target, Record: record,
	})
}
