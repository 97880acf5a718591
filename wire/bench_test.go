package wire

import (
	"testing"

	"berth/lambda"
)

// A call between processes costs one of each: ARCHITECTURE.md allows 0.5 ms for both.

func BenchmarkAcquire(b *testing.B) {
	d := &silent{answer: lambda.Answer{Verdict: lambda.Granted, Reservation: reservation}}
	m, _ := d.serve(b)
	req := lambda.AcquireRequest{Pool: pool, Key: key, Version: &version}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Acquire(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInvoke(b *testing.B) {
	d := &silent{outcome: &lambda.Outcome{Payload: []byte(`{"greeting":"hello"}`), Class: lambda.OK, Version: "3"}}
	_, w := d.serve(b)
	inv := &lambda.Invocation{RequestID: "3b8a7f0e-4f6c-4a86-9d34-2f6f0f1c9c11", Payload: []byte(`{"name":"world"}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Invoke(b.Context(), reservation, inv); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDocument: what the largest hot document costs, written and read.
func BenchmarkDocument(b *testing.B) {
	c, err := newCodec()
	if err != nil {
		b.Fatal(err)
	}
	in := &lambda.AcquireRequest{Pool: pool, Key: key, Version: &version}
	for name, compactly := range map[string]bool{"JSON": false, "compact": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var doc []byte
			for b.Loop() {
				doc, _, err = c.append(doc[:0], in, compactly)
				if err == nil {
					err = c.decode(doc, new(lambda.AcquireRequest), compactly)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(doc)), "document-bytes")
		})
	}
}
