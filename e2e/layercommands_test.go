package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestLayerCommands publishes a layer twice, deploys a function with each version, and deletes one.
func TestLayerCommands(t *testing.T) {
	sharedClient(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "layer", "python", "words.py"), "WORD = 'one'\n")
	writeFile(t, filepath.Join(dir, "fn", "app.py"), "import words\n\ndef handler(event, context):\n    return words.WORD\n")
	publish := func(want string) {
		if out, _ := run(t, 0, "layer", "publish", "words", filepath.Join(dir, "layer"), "--runtime", pythonRuntime(t)); !strings.Contains(out, want) {
			t.Errorf("publish printed %q, want %s", out, want)
		}
	}
	publish("words:1")
	writeFile(t, filepath.Join(dir, "layer", "python", "words.py"), "WORD = 'two'\n")
	publish("words:2")
	answers := func(layer, want string) {
		run(t, 0, "deploy", filepath.Join(dir, "fn"), "--name", "words", "--layer", layer)
		if out, _ := run(t, 0, "invoke", "words"); !strings.Contains(out, want) {
			t.Errorf("with %s it answered %q, want %s", layer, out, want)
		}
	}
	answers("words", "two")
	answers("words:1", "one")
	if out, _ := run(t, 0, "layer", "list", "words"); strings.Count(out, "words") != 2 {
		t.Errorf("list printed %q", out)
	}
	run(t, 0, "layer", "delete", "words:1", "--yes")
	answers("words:2", "two")
	run(t, 1, "deploy", filepath.Join(dir, "fn"), "--name", "words", "--layer", "words:1")
	run(t, 2, "layer", "delete", "words", "--yes")
	run(t, 0, "delete", "words", "--yes")
}
