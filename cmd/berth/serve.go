package main

import (
	"context"

	"berth/cli"
	"berth/node"
)

// serve runs this process's roles.
func serve(ctx context.Context, o cli.ServeOptions) error {
	roles, err := node.ParseRoles(o.Roles, o.Engine)
	if err != nil {
		return err
	}
	return node.Run(ctx, node.Config{
		Addr: o.Addr, DataDir: o.DataDir, Region: o.Region, DevCredentials: o.DevCredentials, MemoryBytes: o.MemoryBytes,
		Log: o.Log, Ready: o.Ready,
		Roles: roles, Engine: o.Engine, ListenInternal: o.ListenInternal, TokenFile: o.TokenFile, ID: o.ID, PoolQuota: o.PoolQuota,
		TLS:          node.TLSFiles{Cert: o.TLSCert, Key: o.TLSKey, CA: o.TLSCA},
		AWSEndpoints: o.AWSEndpoints,
		Metrics:      o.Metrics,
	})
}
