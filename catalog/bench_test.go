package catalog

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"berth/lambda"
	"berth/store"
	"berth/store/memory"
)

// many is the number of functions that a server must hold.
const many = 100_000

// full returns a store with many functions.
func full(b *testing.B) *memory.Catalog {
	b.Helper()
	s := memory.NewCatalog()
	for from := 0; from < many; from += 500 {
		ops := make([]store.Op, 0, 500)
		for i := from; i < from+500; i++ {
			v := spec(fmt.Sprintf("function-%06d", i))
			v.Region, v.Number, v.Modified = region, lambda.Latest, time.Now()
			v.setPending()
			v.setReady()
			raw, err := encode(&Function{CodeBytes: v.CodeSize, Latest: v, NextVersion: 1})
			if err != nil {
				b.Fatal(err)
			}
			ops = append(ops, store.Create(id(v.Function).head(), raw))
		}
		if _, err := s.Apply(context.Background(), ops...); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

func BenchmarkStart100k(b *testing.B) {
	s := full(b)
	for b.Loop() {
		c := New(s, region)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		<-c.Ready()
		cancel()
		<-done
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
}

func BenchmarkListPages100k(b *testing.B) {
	c := open(b, full(b))
	after := ""
	for b.Loop() {
		_, after = c.Functions(account, after, 50)
	}
}

func BenchmarkUsage100k(b *testing.B) {
	c := open(b, full(b))
	for b.Loop() {
		if u := c.Usage(account); u.Functions != many {
			b.Fatal(u)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	c := open(b, memory.NewCatalog())
	if _, _, err := c.Create(b.Context(), spec("f"), nil, false); err != nil {
		b.Fatal(err)
	}
	finish(b, c, "f", lambda.Latest, nil)
	if _, err := c.Publish(b.Context(), id("f"), "", "", nil); err != nil {
		b.Fatal(err)
	}
	if _, err := c.CreateAlias(b.Context(), id("f"), Alias{Name: "prod", Version: "1"}); err != nil {
		b.Fatal(err)
	}
	for _, qualifier := range []string{"", "1", "prod"} {
		ref := lambda.Ref{Account: account, Region: region, Function: "f", Qualifier: qualifier}
		b.Run("qualifier="+qualifier, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Resolve(ref); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRuntimeChoice is what each call asks: for a function of a runtime without versions of its own, of one with, and pinned.
func BenchmarkRuntimeChoice(b *testing.B) {
	c := open(b, full(b))
	v := func(name string) *lambda.Version {
		t, err := c.Resolve(lambda.Ref{Account: account, Region: region, Function: name})
		if err != nil {
			b.Fatal(err)
		}
		return t.Version
	}
	pinned := v("function-000002")
	for _, id := range []lambda.RuntimeVersionID{"one", "two"} {
		if _, err := c.AddRelease(b.Context(), pinned.Runtime, lambda.RuntimeRelease{ID: id}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := c.EditRuntime(b.Context(), pinned.Runtime, func(s *lambda.RuntimeState) error { s.Current = "two"; return nil }); err != nil {
		b.Fatal(err)
	}
	trial := &Trial{RuntimeTrial: lambda.RuntimeTrial{ID: "t", Runtime: pinned.Runtime, Code: pinned.Code, Version: "one", Pinned: true}}
	if err := c.SetRuntimeTrial(b.Context(), id("function-000002"), lambda.Latest, trial); err != nil {
		b.Fatal(err)
	}
	plain := v("function-000001")
	pinned = v("function-000002")
	for name, one := range map[string]struct {
		v    *lambda.Version
		want lambda.RuntimeVersionID
	}{"moved": {plain, "two"}, "pinned": {pinned, "one"}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := c.RuntimeChoice(one.v).Version; got != one.want {
					b.Fatal(got)
				}
			}
		})
	}
}
