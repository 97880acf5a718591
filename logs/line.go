package logs

import (
	"bytes"
	"strconv"
	"strings"
)

// A line is "MILLISECONDS TAB INGESTED TAB STREAM TAB MESSAGE LF": decimal Unix times, and in the message \n for a line
// feed, \0 for a zero byte and \\ for a backslash. A line with a zero byte, such as one that a crash cut short, is not one.

const maxStream = 512 // bytes; the API's bound

// torn ends what a failed write left of a line.
const torn = "\x00\n"

// appendLine encodes an event.
func appendLine(b []byte, e *Event, ingested int64) []byte {
	b = strconv.AppendInt(b, e.Time.UnixMilli(), 10)
	b = append(b, '\t')
	b = strconv.AppendInt(b, ingested, 10)
	b = append(b, '\t')
	stream := e.Stream[:min(len(e.Stream), maxStream)]
	if !plain(stream, '\t') || strings.IndexByte(stream, '\n') >= 0 {
		stream = strings.NewReplacer("\t", "_", "\n", "_", "\x00", "_").Replace(stream)
	}
	b = append(b, stream...)
	b = append(b, '\t')
	message := e.Message[:min(len(e.Message), MaxMessage)]
	if text, ended := strings.CutSuffix(message, "\n"); ended && plain(text, '\\') && strings.IndexByte(text, '\n') < 0 { // nearly all are
		return append(append(b, text...), `\n`+"\n"...)
	}
	for message != "" {
		i := strings.IndexAny(message, "\\\n\x00")
		if i < 0 {
			b = append(b, message...)
			break
		}
		b = append(b, message[:i]...)
		switch message[i] {
		case '\n':
			b = append(b, `\n`...)
		case 0:
			b = append(b, `\0`...)
		default:
			b = append(b, `\\`...)
		}
		message = message[i+1:]
	}
	return append(b, '\n')
}

// plain reports whether s has neither a zero byte nor the other one.
func plain(s string, other byte) bool {
	return strings.IndexByte(s, 0) < 0 && strings.IndexByte(s, other) < 0
}

// line is a decoded line, except that message is still escaped. It refers to the bytes it was read from.
type line struct {
	time, ingested  int64 // Unix milliseconds
	stream, message []byte
}

// parseLine decodes a line without its line feed.
func parseLine(b []byte) (l line, ok bool) {
	if bytes.IndexByte(b, 0) >= 0 {
		return l, false
	}
	t, rest, ok1 := bytes.Cut(b, tab)
	ingested, rest, ok2 := bytes.Cut(rest, tab)
	var ok3, ok4, ok5 bool
	l.stream, l.message, ok3 = bytes.Cut(rest, tab)
	l.time, ok4 = parseInt(t)
	l.ingested, ok5 = parseInt(ingested)
	return l, ok1 && ok2 && ok3 && ok4 && ok5
}

var tab = []byte{'\t'}

func parseInt(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64) // does not allocate
	return n, err == nil
}

// unescape returns the message as it was appended.
func unescape(b []byte) string {
	i := bytes.IndexByte(b, '\\')
	if i < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for i >= 0 && i+1 < len(b) {
		out = append(out, b[:i]...)
		switch b[i+1] {
		case 'n':
			out = append(out, '\n')
		case '0':
			out = append(out, 0)
		default:
			out = append(out, b[i+1])
		}
		b = b[i+2:]
		i = bytes.IndexByte(b, '\\')
	}
	return string(append(out, b...))
}

func countLines(b []byte) int { return bytes.Count(b, []byte{'\n'}) }
