package main

import (
	"context"
	"io"

	"berth/cli"
	"berth/node"
)

func stored(o cli.StoredOptions) node.Stored {
	return node.Stored{
		DataDir: o.DataDir, Engine: o.Engine, TokenFile: o.TokenFile, TLS: node.TLSFiles{Cert: o.TLSCert, Key: o.TLSKey, CA: o.TLSCA}, Log: o.Log,
	}
}

// exportTo writes a server's functions to an archive.
func exportTo(ctx context.Context, o cli.StoredOptions, w io.Writer) (cli.Stored, error) {
	counts, err := node.Export(ctx, stored(o), w)
	return cli.Stored(counts), err
}

// importFrom reads functions from an archive.
func importFrom(ctx context.Context, o cli.StoredOptions, r io.Reader) (cli.Stored, error) {
	counts, err := node.Import(ctx, stored(o), o.Overwrite, r)
	return cli.Stored(counts), err
}
