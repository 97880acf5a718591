package manager

import (
	"fmt"
	"slices"
	"testing"

	"berth/lambda"
)

func TestSplit(t *testing.T) {
	parts := []lambda.Part{{Manager: "a", From: 0, To: 10}, {Manager: "b", From: 10, To: 20}, {Manager: "c", From: 20, To: 25}}
	f, g := lambda.EnvironmentKey{Function: "f"}, lambda.EnvironmentKey{Function: "g"}
	several := func(n int, l legacy) []legacy { return slices.Repeat([]legacy{l}, n) }
	for _, c := range []struct {
		name string
		self lambda.ManagerID
		load int
		list []legacy
		want string
	}{
		{"what runs fills slots", "", 0, several(13, legacy{key: f, inUse: true}), "map[a:10 b:3]"},
		{"what stays here stays first", "b", 0, several(13, legacy{key: f, inUse: true}), "map[a:3 b:10]"},
		{"what is in no slot goes to the last", "", 0, several(30, legacy{key: f, inUse: true}), "map[a:10 b:10 c:10]"},
		{"idle ones without load fill too", "", 0, several(13, legacy{key: f}), "map[a:10 b:3]"},
		{"idle ones go where calls are drawn", "", 20, several(12, legacy{key: f}), "map[a:6 b:6]"},
		{"each key by itself", "", 3, slices.Concat(several(8, legacy{key: f}), several(8, legacy{key: g})), "map[a:16]"},
		{"in proportion", "", 25, several(25, legacy{key: f}), "map[a:10 b:10 c:5]"},
		{"more than slots", "", 25, several(50, legacy{key: f}), "map[a:20 b:20 c:10]"},
		{"what is provisioned is the first's", "", 25, several(30, legacy{key: f, provisioned: true}), "map[a:30]"},
	} {
		got := map[lambda.ManagerID]int{}
		for _, heir := range split(parts, c.self, c.load, c.list) {
			got[heir]++
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}
