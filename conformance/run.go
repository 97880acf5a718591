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
	matched, total, skipped := 0, 0, 0
	for _, sc := range scenarios() {
		rec, ok := recordings[sc.id]
		if !ok {
			t.Errorf("no recording %s", sc.id)
			continue
		}
		if sc.runtime != "" && target.Runtimes[sc.runtime] == "" {
			skipped++
			continue
		}
		total++
		t.Run(sc.id, func(t *testing.T) {
			diffs := c.replay(t, sc, rec)
			switch {
			case len(diffs) == 0:
				matched++
			case sc.pending != "":
				t.Logf("not expected to match yet: %s (%d differences, the first: %s)", sc.pending, len(diffs), diffs[0])
			default:
				t.Errorf("%d differences\n    %s", len(diffs), strings.Join(diffs, "\n    "))
			}
		})
	}
	t.Logf("%d of %d recordings of this slice match (%d need a runtime that the target does not run)", matched, total, skipped)
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
	m := newMatcher(!rec.before(2024), sc.kinds)
	for _, label := range ordered(rec.Answers, s.answers) {
		want, recorded := rec.Answers[label]
		got, noted := s.answers[label]
		switch {
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
