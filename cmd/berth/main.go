// Command berth is Berth: the server, and the commands that speak to it.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"berth/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends a process that does not stop
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	return cli.Run(ctx, cli.Config{Args: args, Getenv: getenv, Stdin: stdin, Stdout: stdout, Stderr: stderr, Serve: serve, Export: exportTo, Import: importFrom})
}
