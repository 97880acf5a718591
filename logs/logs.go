// Package logs keeps the log lines of functions under the data directory, with rotation, and reads them back.
package logs

import "time"

// Event is one log line of one stream of one group.
type Event struct {
	Stream  string // "2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef"
	Time    time.Time
	Message string
}
