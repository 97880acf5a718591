package main

import (
	"context"
	"errors"

	"berth/cli"
)

// serve runs all roles in this process.
func serve(context.Context, cli.ServeOptions) error {
	return errors.New("this binary was built without a server: only the client commands work")
}
