package main

import (
	"io"
	"strings"
	"testing"
)

func TestBadArguments(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"seven", `unexpected argument "seven"`},
		{"-seeds many", "invalid value"},
		{"-trace /does/not/exist", "/does/not/exist/azure2019_1250_inv.csv.gz"},
	} {
		if err := run(strings.Fields(c.args), io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("sim %s: %v, want it to say %q", c.args, err, c.want)
		}
	}
}
