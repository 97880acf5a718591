//go:build linux

package namespace

func probeMain()  {}
func daemonMain() {}
