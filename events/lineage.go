package events

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"berth/catalog"
)

// maxTurns is how often a function may run within one chain of events (developer guide, "Lambda recursive loop detection":
// about 16 times).
const maxTurns = 16

// maxLineage bounds how many functions of a chain are counted; the oldest are forgotten. With it the header stays below 256
// bytes.
const maxLineage = 8

const lineageField = "Lineage="

// enter adds a turn of a function to the lineage in a trace header (X-Amzn-Trace-Id: …;Lineage=HASH:COUNT|HASH:COUNT), and says
// which turn it is.
func enter(trace string, id catalog.ID) (next string, turn int) {
	own := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(laneOf(id))))
	var fields, chain []string
	for field := range strings.SplitSeq(trace, ";") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(field), lineageField); ok {
			chain = strings.Split(text, "|")
		} else if field != "" {
			fields = append(fields, field)
		}
	}
	turn = 1
	var others []string
	for _, link := range chain {
		hash, count, ok := strings.Cut(link, ":")
		n, err := strconv.ParseUint(count, 10, 16)
		switch {
		case !ok || err != nil || len(hash) != len(own) || strings.Trim(hash, "0123456789abcdef") != "": // not of ours
		case hash == own:
			turn = int(n) + 1
		default:
			others = append(others, hash+":"+strconv.FormatUint(n, 10))
		}
	}
	if len(others) >= maxLineage {
		others = others[len(others)-maxLineage+1:]
	}
	links := append(others, own+":"+strconv.Itoa(min(turn, 1<<15)))
	return strings.Join(append(fields, lineageField+strings.Join(links, "|")), ";"), turn
}
