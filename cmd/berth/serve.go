package main

import (
	"context"

	"berth/cli"
	"berth/node"
)

// serve runs all roles in this process.
func serve(ctx context.Context, o cli.ServeOptions) error {
	return node.Run(ctx, node.Config{
		Addr: o.Addr, DataDir: o.DataDir, Region: o.Region, DevCredentials: o.DevCredentials, MemoryBytes: o.MemoryBytes,
		Log: o.Log, Ready: o.Ready,
	})
}
