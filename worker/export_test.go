package worker

import "berth/lambda"

// ParkedFor says how many sandboxes wait that v could take.
func (w *Worker) ParkedFor(v *lambda.Version) int {
	rt, err := w.cfg.Runtimes.Find(v.Runtime)
	if err != nil || w.parked == nil {
		return 0
	}
	kind, can := kindOf(rt, v)
	if !can {
		return 0
	}
	return w.parked.Waiting(kind)
}

// ParkedOf counts the sandboxes that wait with one version of a runtime that needs no size.
func (w *Worker) ParkedOf(runtime string, version lambda.RuntimeVersionID) int {
	return w.parked.Waiting(parkedKind{runtime: runtime, version: version})
}
