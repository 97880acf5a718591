package conformance

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"berth/apimodel"
)

// Run replays every scenario of this slice against a target, each as a subtest. It prints how many recordings match, and
// fails for those that are expected to match and do not.
func Run(t *testing.T, target Target) {
	recordings := load(t)
	model, err := apimodel.Load()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := &client{T: t, target: target, model: model, http: &http.Client{Transport: transport, Timeout: callLimit}}
	matched, inPart, total, skipped := 0, 0, 0, 0
	for _, sc := range scenarios() {
		rec, ok := recordings[sc.id]
		if !ok {
			t.Errorf("no recording %s", sc.id)
			continue
		}
		if (sc.runtime == "") != (target.Runtimes == nil) || sc.runtime != "" && target.Runtimes[sc.runtime] == "" || sc.queue && target.SQS == "" {
			skipped++
			continue
		}
		total++
		t.Run(sc.id, func(t *testing.T) {
			diffs := c.replay(t, sc, rec)
			switch {
			case len(diffs) == 0 && sc.labels == nil && sc.pending != "":
				t.Errorf("matches by now: take away its reason not to (%s)", sc.pending)
			case len(diffs) == 0 && sc.labels == nil:
				matched++
			case len(diffs) == 0:
				inPart++
			case sc.labels != nil:
				t.Errorf("in part: %d differences\n    %s", len(diffs), strings.Join(diffs, "\n    "))
			case sc.pending != "":
				t.Logf("not expected to match yet: %s (%d differences, the first: %s)", sc.pending, len(diffs), diffs[0])
			default:
				t.Errorf("%d differences\n    %s", len(diffs), strings.Join(diffs, "\n    "))
			}
		})
	}
	part := "the API"
	if target.Runtimes != nil {
		part = "functions that run"
	}
	t.Logf("%d of %d recordings of %s match, %d more in part (%d are not for this target)", matched, total, part, inPart, skipped)
}

// replay runs one scenario and compares its answers.
func (c *client) replay(t *testing.T, sc scenario, rec recording) []string {
	own := *c
	own.T = t
	own.target.Runtimes = nil
	if actual := c.target.Runtimes[sc.runtime]; actual != "" {
		own.target.Runtimes = map[string]string{sc.runtime: actual} // no other runtime is to be renamed in its answers
	}
	s := &session{client: &own, answers: map[string]any{}}
	defer s.cleanUp() // not t.Cleanup: the test's context has ended by then
	sc.run(s)
	m := newMatcher(rec.newer(), sc.kinds)
	for _, label := range ordered(rec.Answers, s.answers) {
		want, recorded := rec.Answers[label]
		got, noted := s.answers[label]
		switch {
		case sc.labels != nil && !slices.Contains(sc.labels, label):
		case !recorded:
			m.differ(label, missing{}, got)
		case !noted:
			m.differ(label, want, missing{})
		default:
			m.match(label, label, want, got)
		}
	}
	return m.diffs
}

// ordered returns the labels of both, sorted.
func ordered(a, b map[string]any) []string {
	labels := sorted(a)
	for _, l := range sorted(b) {
		if !slices.Contains(labels, l) {
			labels = append(labels, l)
		}
	}
	return labels
}

// RuntimesOf says which installed runtime stands in for each recorded one: any version of the same language, since the
// recordings were made with more versions than a host has.
func RuntimesOf(installed []string) map[string]string {
	out := map[string]string{}
	for _, sc := range scenarios() {
		for _, name := range installed {
			if sc.runtime == name || language(sc.runtime) == language(name) && out[sc.runtime] == "" {
				out[sc.runtime] = name
			}
		}
	}
	return out
}

// version is the number in a runtime's name: "24" of nodejs24.x.
func version(runtime string) string {
	return strings.TrimSuffix(strings.TrimPrefix(runtime, language(runtime)), ".x")
}

func language(runtime string) string { return strings.TrimRight(runtime, "0123456789.x") }
