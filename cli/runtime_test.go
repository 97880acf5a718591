package cli

import (
	"strings"
	"testing"

	"berth/client"
)

func TestRuntimeLabels(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	r := client.Runtime{Installed: digest, Releases: []client.RuntimeRelease{{ID: strings.Repeat("cd", 32), Number: 3}}}
	for id, want := range map[string]string{client.HostRuntime: "host (abababababab)", r.Releases[0].ID: "3 (cdcdcdcdcdcd)", "": "", "other": "other"} {
		if got := versionLabel(r, id); got != want {
			t.Errorf("versionLabel(%q) = %q, want %q", id, got, want)
		}
	}
	if got := versionLabel(client.Runtime{}, client.HostRuntime); got != client.HostRuntime {
		t.Errorf("where no worker has it: %q", got)
	}
}
