package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"berth/control"
	"berth/lambda"
	"berth/members"
)

// drainLook is how often it is looked whether a manager holds anything yet, and leaveLook whether there are environments on
// a worker that is to stop.
const (
	drainLook = 50 * time.Millisecond
	leaveLook = 250 * time.Millisecond
)

// drain empties this process, whose roles are told to stop: the others send it nothing new, its calls end, its manager leaves
// the ring and hands over. Whatever is left when ctx ends is cut off.
func (c *cluster) drain(ctx context.Context) error {
	c.draining.Store(true)
	if err := c.members.Announce(); err != nil {
		c.log.Warn("the others could not be told that this process is to stop", "err", err)
	}
	if c.stopServing != nil { // first: its calls may need the roles of this process
		c.lastAnswers(ctx)
		if err := c.stopServing(ctx); err != nil {
			return fmt.Errorf("ending the calls under way: %w", err)
		}
	}
	var parts errgroup.Group
	if c.manager != nil {
		parts.Go(func() error { return c.drainManager(ctx) })
	}
	if c.worker != nil {
		parts.Go(func() error { return c.drainWorker(ctx) })
	}
	return parts.Wait()
}

// lastAnswerTime is for how long a frontend that is to stop goes on taking calls, each as the last one of its connection: whoever
// sends a call over a connection that is closed at that moment cannot know whether it ran.
const lastAnswerTime = 3 * time.Second

// lastAnswers gives the callers' connections time to end. It has its effect by closeAfter.
func (c *cluster) lastAnswers(ctx context.Context) {
	timer := time.NewTimer(lastAnswerTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// closeAfter has callers close their connections once this process is to stop.
func (c *cluster) closeAfter(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// drainManager waits until the ring has been made without this manager and it holds nothing any more.
func (c *cluster) drainManager(ctx context.Context) error {
	tick := time.NewTicker(drainLook)
	defer tick.Stop()
	for c.onRing() || c.manager.Status().Environments > 0 {
		if !c.successors() {
			c.log.Info("there is no other manager that could take over")
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.log.Warn("this manager stops before it could hand everything over", "on_ring", c.onRing(), "environments", c.manager.Status().Environments)
			return nil
		}
	}
	return nil
}

func (c *cluster) onRing() bool {
	return slices.Contains(c.Ring().Members(), lambda.ManagerID(c.id))
}

// successors reports whether another manager stays.
func (c *cluster) successors() bool {
	for _, m := range c.members.View().Managers {
		if !m.Draining && m.ID != c.id {
			return true
		}
	}
	return false
}

func (c *cluster) drainWorker(ctx context.Context) error {
	err := c.worker.Drain(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		c.log.Warn("this worker stops although calls still run: they are cut off")
		return nil
	}
	return err
}

// followWorkers tells the manager which workers are lost or back, and has it move its environments off those that are to stop,
// until ctx ends.
func (c *cluster) followWorkers(ctx context.Context) error {
	boots := map[string]string{} // of the workers that live, by id
	for {
		view := c.members.View()
		c.tellLost(view, boots)
		var again <-chan time.Time
		for _, w := range view.Workers {
			if w.Draining {
				c.manager.Leave(lambda.WorkerID(w.ID))
				again = time.After(leaveLook)
			}
		}
		select {
		case <-again:
		case <-view.Newer():
		case <-ctx.Done():
			return nil
		}
	}
}

// tellLost tells the manager what has changed since the view in which workers had these boots, and brings them up to date.
func (c *cluster) tellLost(view *members.View, boots map[string]string) {
	for id, boot := range boots {
		if _, lives := view.Worker(lambda.WorkerID(id)); !lives {
			c.manager.Lost(lambda.WorkerID(id), view.Ended(boot))
			delete(boots, id)
		}
	}
	for _, w := range view.Workers {
		if boots[w.ID] != w.Boot {
			c.manager.Back(lambda.WorkerID(w.ID))
			boots[w.ID] = w.Boot
		}
	}
}

// tasks is the background work of the cluster; one control process at a time does it.
func (c *cluster) tasks() []control.Task {
	return []control.Task{
		control.Rings(c.catalog, c.members, c.log.With("part", "control")),
	}
}

// controlLives reports whether the process with this boot, which has the role control, is heard.
func (c *cluster) controlLives(boot string) bool {
	return slices.ContainsFunc(c.members.View().Controls, func(m *members.Tracked) bool { return m.Boot == boot })
}
