package e2e

import (
	"strings"
	"testing"

	"berth/client"
)

// TestDeployImage deploys an image, a newer one under the same tag, and settings; and is told what does not go together.
func TestDeployImage(t *testing.T) {
	needServer(t)
	host, push, _ := ownRegistry(t)
	push(host+"/team/shown:1", goImage(t, "one"))
	data := t.TempDir()
	s := start(t, data)
	c := client.New(s.Client)
	defer c.Close()
	deploy := func(want string, args ...string) {
		t.Helper()
		out, errs, code := berth(t, nil, append([]string{"deploy", "--data", data}, args...)...)
		if (code == 0) != strings.HasSuffix(want, "ed shown") || !strings.Contains(out+errs, want) {
			t.Errorf("berth deploy %v: %d %s %s, want %q", args, code, out, errs, want)
		}
	}
	deploy("created shown", "--image", host+"/team/shown:1", "--timeout", "5s")
	wantAnswer(t, c, "shown", "", "one")
	push(host+"/team/shown:1", goImage(t, "two"))
	deploy("updated shown", "--image", host+"/team/shown:1", "--memory", "256")
	wantAnswer(t, c, "shown", "", "two")
	deploy("does not exist", "--image", host+"/team/shown:none")
	deploy("an image brings its own", "--image", host+"/team/shown:1", "--runtime", "python3.11")
	deploy("not both", "--image", host+"/team/shown:1", ".")
	python(t, c, "files", "def handler(event, context):\n    return 1\n")
	deploy("is made of files", "--image", host+"/team/shown:1", "--name", "files")
}
