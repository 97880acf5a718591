package procfs

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"
)

// idleSample is over what time Idle measures at least: the kernel counts in steps of 10 ms.
const idleSample = 50 * time.Millisecond

// Idle measures which share of the machine's processor time is idle. The zero value is ready for use, from several goroutines.
type Idle struct {
	mu    sync.Mutex
	at    time.Time
	last  times
	share float64
}

// Share returns the share from 0 to 1 that was idle lately, over the 50 ms before or since the last question, whichever is longer. It is 1
// where /proc cannot be read, and on the first question.
func (i *Idle) Share() float64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if now.Sub(i.at) < idleSample {
		return i.share
	}
	content, err := os.ReadFile("/proc/stat")
	var t times
	if err == nil {
		t, err = parseTimes(content)
	}
	switch {
	case err != nil || i.at.IsZero():
		i.share = 1
	case t.all > i.last.all && t.idle >= i.last.idle:
		i.share = float64(t.idle-i.last.idle) / float64(t.all-i.last.all)
	}
	i.at, i.last = now, t
	return i.share
}

// times are sums over all processors since boot, in clock ticks.
type times struct{ all, idle uint64 }

// parseTimes reads the first line of /proc/stat: "cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL GUEST GUEST_NICE", see proc(5). Guests' time
// is in USER and NICE already.
func parseTimes(content []byte) (t times, err error) {
	line, _, _ := bytes.Cut(content, []byte{'\n'})
	fields := bytes.Fields(line)
	const idle, iowait, steal = 4, 5, 8
	if len(fields) <= iowait || string(fields[0]) != "cpu" {
		return t, errors.New("/proc/stat has an unknown form")
	}
	for i, field := range fields[1:min(len(fields), steal+1)] {
		n, err := strconv.ParseUint(string(field), 10, 64)
		if err != nil {
			return t, err
		}
		t.all += n
		if i+1 == idle || i+1 == iowait {
			t.idle += n
		}
	}
	return t, nil
}
