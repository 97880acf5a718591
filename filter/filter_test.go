package filter

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct{ pattern, yes, no string }{
		{`{"body":{"a":["x","y"]}}`, `{"body":{"a":"y"}}`, `{"body":{"a":"z"}} {"body":"a"} {} {"body":{"a":null}}`},
		{`{"a":[1,null,true]}`, `{"a":1} {"a":null} {"a":true} {"a":[5,1]}`, `{"a":"1"} {"a":false} {} {"a":[]}`},
		{`{"a":[{"exists":true}]}`, `{"a":0} {"a":null}`, `{} {"b":1} {"a":[]}`},
		{`{"a":{"b":[{"exists":false}]}}`, `{} {"a":{}} {"a":{"c":1}} {"a":3}`, `{"a":{"b":1}}`},
		{`{"a":[{"prefix":"ab"}]}`, `{"a":"abc"} {"a":"ab"}`, `{"a":"a"} {"a":"ba"} {"a":1}`},
		{`{"a":[{"suffix":{"equals-ignore-case":".PNG"}}]}`, `{"a":"x.png"} {"a":".PnG"}`, `{"a":"png"}`},
		{`{"a":[{"equals-ignore-case":"Go"}]}`, `{"a":"gO"}`, `{"a":"goo"}`},
		{`{"a":[{"wildcard":"a*b*c"}]}`, `{"a":"abc"} {"a":"axxbyyc"} {"a":"abbcc"}`, `{"a":"ac"} {"a":"acb"} {"a":"abcd"}`},
		{`{"a":[{"cidr":"10.0.0.0/24"}]}`, `{"a":"10.0.0.77"}`, `{"a":"10.0.1.1"} {"a":"no address"}`},
		{`{"a":[{"numeric":[">=",100,"<",200]}]}`, `{"a":100} {"a":199.5}`, `{"a":200} {"a":99} {"a":"150"} {}`},
		{`{"a":[{"numeric":["=",3]}, "x"]}`, `{"a":3.0} {"a":"x"}`, `{"a":4}`},
		{`{"a":[{"anything-but":["x",5]}]}`, `{"a":"y"} {"a":4} {"a":null}`, `{"a":"x"} {"a":5} {}`},
		{`{"a":[{"anything-but":{"prefix":"x"}}]}`, `{"a":"y"}`, `{"a":"xy"} {}`},
		{`{"a":[{"anything-but":"x"}]}`, `{"a":"y"}`, `{"a":"x"}`},
		{`{"$or":[{"a":["x"]},{"b":[1]}],"c":["y"]}`, `{"a":"x","c":"y"} {"b":1,"c":"y"}`, `{"c":"y"} {"a":"x"}`},
		{`{"a":{"b":["x"]}}`, `{"a":[{"b":"y"},{"b":"x"}]}`, `{"a":[{"b":"y"}]} {"a":["x"]}`},
	} {
		p, err := Parse(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		for want, records := range map[bool]string{true: c.yes, false: c.no} {
			for d := json.NewDecoder(strings.NewReader(records)); d.More(); {
				var record map[string]any
				if err := d.Decode(&record); err != nil {
					t.Fatal(err)
				}
				if p.Match(record) != want {
					t.Errorf("%s matches %v: %v, want %v", c.pattern, record, !want, want)
				}
			}
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{``, `null`, `[]`, `{}`, `{"a":{}}`, `{"a":[]}`, `{"a":"x"}`, `{"a":[[]]}`, `{"a":[{}]}`, `{"a":[{"prefix":1}]}`, `{"a":[{"exists":"x"}]}`,
		`{"a":[{"near":1}]}`, `{"a":[{"prefix":"x","suffix":"y"}]}`, `{"a":[{"numeric":[">"]}]}`, `{"a":[{"numeric":["~",1]}]}`, `{"a":[{"numeric":[">","1"]}]}`, `{"a":[{"cidr":"x"}]}`,
		`{"$or":[{"a":["x"]}]}`, `{"$or":["x","y"]}`, `{"a":[{"anything-but":[]}]}`, strings.Repeat(`{"a":`, 100) + `["x"]` + strings.Repeat(`}`, 100)} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%.60s is taken", text)
		}
	}
}

// FuzzParse: what is parsed can be matched, whatever it is.
func FuzzParse(f *testing.F) {
	f.Add(`{"a":[{"numeric":[">=",100]}],"$or":[{"b":[1]},{"c":[{"anything-but":["x"]}]}]}`, `{"a":[1,{"b":null}]}`)
	f.Fuzz(func(t *testing.T, pattern, record string) {
		p, err := Parse(pattern)
		var r map[string]any
		if err != nil || json.Unmarshal([]byte(record), &r) != nil {
			return
		}
		p.Match(r)
	})
}
