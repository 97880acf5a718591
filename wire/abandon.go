package wire

import (
	"strings"
	"sync"
)

// openConns are the connections of a client, by address. Its lock is taken last.
type openConns struct {
	mu     sync.Mutex
	byAddr map[string]map[*clientConn]struct{}
}

func (o *openConns) add(c *clientConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byAddr == nil {
		o.byAddr = map[string]map[*clientConn]struct{}{}
	}
	if o.byAddr[c.addr] == nil {
		o.byAddr[c.addr] = map[*clientConn]struct{}{}
	}
	o.byAddr[c.addr][c] = struct{}{}
}

func (o *openConns) remove(c *clientConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if delete(o.byAddr[c.addr], c); len(o.byAddr[c.addr]) == 0 {
		delete(o.byAddr, c.addr)
	}
}

// What a connection is used for, as Abandon must know: it ends that very call and no later one.
const (
	idleUse int32 = iota
	managerUse
	otherUse
	abandonedUse
)

func useOf(operation string) int32 {
	if strings.HasPrefix(operation, managerOperations) {
		return managerUse
	}
	return otherUse
}

// managerOperations is how the names of a manager's operations begin.
const managerOperations = "manager/"

// Abandon ends the calls of a manager that wait for its answer: it is lost, and nobody need wait until the network says so. What is
// run by a worker at the same address goes on. It does not block.
func (c *Client) Abandon(addr string) {
	c.open.mu.Lock()
	defer c.open.mu.Unlock()
	for conn := range c.open.byAddr[addr] {
		if conn.use.CompareAndSwap(managerUse, abandonedUse) {
			_ = conn.conn.SetDeadline(past) // whoever waits closes it
		}
	}
}
