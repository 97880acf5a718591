package main

import "io"

func compare(o options, out io.Writer) error { return nil }
