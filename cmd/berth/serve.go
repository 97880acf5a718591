package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"berth/cli"
	"berth/node"
)

// gcPercent lets the heap grow to four times what is live before garbage is collected, unless the environment says otherwise (GOGC).
// Measured with 16 callers of Python, two runs each: 70 instead of 76 µs of processor time a call, 121 instead of 65 MB resident.
const gcPercent = 300

// serve runs this process's roles.
func serve(ctx context.Context, o cli.ServeOptions) error {
	// A log that nobody reads any more (serve 2>&1 | head) is no reason to die and leave sandboxes behind, which is what a write to a broken
	// pipe does on the descriptors 1 and 2 unless somebody asked for the signal. Ignored it would be for all functions, too, which inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	roles, err := node.ParseRoles(o.Roles, o.Engine)
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if o.Pprof != "" {
		p, err := startProfiler(o.Pprof, o.Log)
		if err != nil {
			return err
		}
		defer p.stop()
	}
	return node.Run(ctx, node.Config{
		Addr: o.Addr, DataDir: o.DataDir, Region: o.Region, DevCredentials: o.DevCredentials, MemoryBytes: o.MemoryBytes,
		Log: o.Log, Ready: o.Ready,
		Roles: roles, Engine: o.Engine, ListenInternal: o.ListenInternal, TokenFile: o.TokenFile, ID: o.ID, PoolQuota: o.PoolQuota, RolloutPace: o.RolloutPace, RolloutCalls: o.RolloutCalls,
		EngineCluster: o.EngineCluster, EngineRoutes: o.EngineRoutes, DrainLimit: o.DrainLimit,
		TLS:          node.TLSFiles{Cert: o.TLSCert, Key: o.TLSKey, CA: o.TLSCA},
		AWSEndpoints: o.AWSEndpoints,
		Metrics:      o.Metrics,
		ImageDirs:    o.ImageDirs, PlainRegistries: o.PlainRegistries, ImageBytes: o.ImageBytes,
		TokenIssuer: o.TokenIssuer,
	})
}
