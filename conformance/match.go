package conformance

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// matcher compares answers with recorded ones. A recorded string may hold placeholders: <kind:n> stands for one value,
// the same wherever it is written, and different from the value of every other n of its kind; <kind> stands for any.
type matcher struct {
	kinds map[string]string // placeholder kind → regular expression, beyond the common ones
	bound map[string]string // "<uuid:1>" → its value
	owner map[string]string // kind and value → placeholder
	newer []string          // fields that answers hold now, and did not when the recording was made
	diffs []string
}

// placeholder finds <kind>, <kind:n> and the recorder's <<code-sha-256>:1>.
var placeholder = regexp.MustCompile(`<<?([a-zA-Z_][a-zA-Z0-9_ -]*)>?(:\d+)?>`)

// repeated finds <a:len(140)>: a letter repeated.
var repeated = regexp.MustCompile(`<(\w):len\((\d+)\)>`)

// volatile are the recorder's stand-ins without brackets, by member name.
var volatile = map[string]string{
	"LastModified":  `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?\+0000`,
	"CodeSha256":    `[A-Za-z0-9+/]{43}=`,
	"LogResult":     `[A-Za-z0-9+/]+=*`,
	"SentTimestamp": `\d{13}`,
	"FunctionUrl":   `https?://[a-z0-9]{32}\.lambda-url\.us-east-1\.[^/]+/`,
}

// standIns are the texts that volatile applies to.
var standIns = []string{"date", "code-sha256", "log-result", "event-id", "lambda-url", "timestamp", "sent-timestamp", "sender-id"}

// kinds are what the common placeholders stand for.
var kinds = map[string]string{
	"uuid": `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`, "request-id": `[0-9a-f-]{36}`,
	"region": `us-east-1`, "partition": `aws`, "code-size": `[1-9]\d*`, "location": `https?://\S+`,
	"code-sha256": `[A-Za-z0-9+/]{43}=`, "code-sha-256": `[A-Za-z0-9+/]{43}=`, "function-name": `[a-zA-Z0-9_-]+`,
	"resource": `[a-zA-Z0-9_-]+`, "duration": `\d+(\.\d+)?`, "memory": `\d+`, "remaining-time-in-millis": `\d+`,
}

// since says from when on answers hold a field; recordings made before do not. The first four came in the years before
// 2024, the last between two recordings.
var since = map[string]time.Time{
	"LoggingConfig":         time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	"SnapStart":             time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	"RuntimeVersionConfig":  time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	"EphemeralStorage":      time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	"EventSourceMappingArn": time.Date(2024, 10, 1, 0, 0, 0, 0, time.UTC),
}

func newMatcher(newer []string, extra map[string]string) *matcher {
	return &matcher{kinds: extra, bound: map[string]string{}, owner: map[string]string{}, newer: newer}
}

func (m *matcher) differ(path string, want, got any) {
	m.diffs = append(m.diffs, fmt.Sprintf("%s:\n      want %s\n      got  %s", path, short(want), short(got)))
}

func short(v any) string {
	const most = 600
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return fmt.Sprint(v)
	}
	s := strings.TrimSpace(b.String())
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// missing stands for a member that is not there.
type missing struct{}

func (missing) MarshalJSON() ([]byte, error) { return []byte(`"(absent)"`), nil }

// match compares one value; name is the member's name.
func (m *matcher) match(path, name string, want, got any) {
	if _, isString := got.(string); isString && !scalar(want) {
		var inner any
		if json.Unmarshal([]byte(got.(string)), &inner) == nil {
			got = inner // the recorder shows JSON in strings (a policy, a payload) as what it holds
		}
	}
	switch want := want.(type) {
	case map[string]any:
		m.object(path, want, got)
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			m.differ(path, want, got)
			return
		}
		for i := range want {
			m.match(path+"["+strconv.Itoa(i)+"]", name, want[i], list[i])
		}
	case string:
		m.text(path, name, want, got)
	default:
		if want != got {
			m.differ(path, want, got)
		}
	}
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

func (m *matcher) object(path string, want map[string]any, got any) {
	object, ok := got.(map[string]any)
	if !ok {
		m.differ(path, want, got)
		return
	}
	for _, key := range sorted(want) {
		if value, ok := object[key]; ok {
			m.match(path+"."+key, key, want[key], value)
		} else {
			m.differ(path+"."+key, want[key], missing{})
		}
	}
	for _, key := range sorted(object) {
		if _, ok := want[key]; !ok && !slices.Contains(m.newer, key) {
			m.differ(path+"."+key, missing{}, object[key])
		}
	}
}

func sorted(o map[string]any) []string {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// text compares a recorded string, which may hold placeholders, with a string or a number.
func (m *matcher) text(path, name, want string, got any) {
	var value string
	switch got := got.(type) {
	case string:
		value = got
	case float64:
		if want == "datetime" || want == "timestamp" || want == "maximum-batching-window-in-seconds" {
			return // the recorder's stand-ins for numbers
		}
		if !strings.HasPrefix(want, "<") { // only a placeholder may stand for a number
			m.differ(path, want, got)
			return
		}
		value = strconv.FormatFloat(got, 'f', -1, 64)
	default:
		if strings.HasPrefix(want, "<stack-trace") {
			return // stands for a list
		}
		m.differ(path, want, got)
		return
	}
	if slices.Contains(standIns, want) {
		if expr := volatile[name]; expr != "" && !regexp.MustCompile(`\A(?:`+expr+`)\z`).MatchString(value) {
			m.differ(path, want, got)
		}
		return
	}
	if reason := m.unify(want, value); reason != "" {
		m.differ(path+" ("+reason+")", want, got)
	}
}

// unify matches a template with a value and binds its placeholders; it returns what is wrong.
func (m *matcher) unify(template, value string) string {
	template = repeated.ReplaceAllStringFunc(template, func(s string) string {
		g := repeated.FindStringSubmatch(s)
		n, _ := strconv.Atoi(g[2])
		return strings.Repeat(g[1], n)
	})
	var expr strings.Builder
	var numbered []string
	at := 0
	for _, loc := range placeholder.FindAllStringSubmatchIndex(template, -1) {
		expr.WriteString(regexp.QuoteMeta(template[at:loc[0]]))
		whole, kind := template[loc[0]:loc[1]], template[loc[2]:loc[3]]
		at = loc[1]
		if known, ok := m.bound[whole]; ok {
			expr.WriteString(regexp.QuoteMeta(known))
			continue
		}
		numbered = append(numbered, whole, kind)
		expr.WriteString("(" + m.kind(kind) + ")")
	}
	expr.WriteString(regexp.QuoteMeta(template[at:]))
	groups := regexp.MustCompile(`(?s)\A` + expr.String() + `\z`).FindStringSubmatch(value)
	if groups == nil {
		return "differs"
	}
	for i := 0; i < len(numbered); i += 2 {
		if reason := m.bind(numbered[i], numbered[i+1], groups[i/2+1]); reason != "" {
			return reason
		}
	}
	return ""
}

// kind returns the expression of a placeholder kind, without capturing groups.
func (m *matcher) kind(kind string) string {
	expr, ok := m.kinds[kind]
	if !ok {
		expr, ok = kinds[kind]
	}
	if !ok {
		return `.+?`
	}
	return strings.ReplaceAll(expr, "(", "(?:")
}

func (m *matcher) bind(whole, kind, value string) string {
	if !strings.Contains(whole, ":") {
		return ""
	}
	if known, ok := m.bound[whole]; ok && known != value {
		return whole + " was " + known
	}
	if other, ok := m.owner[kind+" "+value]; ok && other != whole {
		return "the value of " + whole + " is already that of " + other
	}
	m.bound[whole], m.owner[kind+" "+value] = value, whole
	return ""
}
