package runtimes

import (
	"context"
	"testing"
	"time"
)

// hello is the smallest function of each language with its own bootstrap.
var hello = map[string]struct {
	handler string
	src     source
}{
	"python": {"h.handler", source{"h.py": "def handler(event, context):\n    return {'message': 'hello ' + event['name']}\n"}},
	"nodejs": {"index.handler", source{"index.js": "exports.handler = async (event) => ({ message: 'hello ' + event.name });\n"}},
}

// BenchmarkInvoke is one invocation of a warm process, from Invoke to WaitNext.
func BenchmarkInvoke(b *testing.B) {
	for language, fn := range hello {
		b.Run(language, func(b *testing.B) {
			p := start(b, installed(b, language)[0], fn.src, fn.handler)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := p.api.WaitReady(ctx); err != nil {
				b.Fatal(err)
			}
			ev := event(`{"name": "world"}`)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := p.api.Invoke(ctx, ev); err != nil {
					b.Fatal(err)
				}
				if err := p.api.WaitNext(ctx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBoot is from the start of a process to its first request for an event.
func BenchmarkBoot(b *testing.B) {
	for language, fn := range hello {
		b.Run(language, func(b *testing.B) {
			rt := installed(b, language)[0]
			for b.Loop() {
				p := start(b, rt, fn.src, fn.handler)
				if err := p.api.WaitReady(context.Background()); err != nil {
					b.Fatal(err)
				}
				_ = p.cmd.Process.Kill()
				p.exit()
			}
		})
	}
}
