package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// programArg is the first argument by which a test binary knows that it is to be the suite's program.
const programArg = "sandboxtest-program"

// Proc is what the suite's program sees of the process it is. A driver of real processes fills it from the operating system
// (Main), a double from the Command.
type Proc struct {
	Args   []string // after programArg: the name of what to do, and its arguments
	Env    []string
	Dir    string
	Stdout io.Writer
	Stderr io.Writer
	Extra  []*os.File
	Dial   func(address string) (net.Conn, error)
	Ended  context.Context // ends when the process is killed; a real process just dies
}

// Main turns the calling test binary into the suite's program when it was started as such. Call it first in TestMain.
func Main() {
	if len(os.Args) < 3 || os.Args[1] != programArg {
		return
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = err.Error()
	}
	p := Proc{Args: os.Args[2:], Env: os.Environ(), Dir: dir, Stdout: os.Stdout, Stderr: os.Stderr, Ended: context.Background()}
	for fd := uintptr(3); fd < 6; fd++ {
		p.Extra = append(p.Extra, os.NewFile(fd, "extra"))
	}
	p.Dial = func(address string) (net.Conn, error) { return net.DialTimeout("tcp", address, 2*time.Second) }
	syscall.Exit(Program(p)) // os.Exit under the race detector takes a second
}

// Program does what the suite asks for and returns the exit status.
func Program(p Proc) int {
	err := run(p)
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 1
	}
	return 0
}

type exitError int

func (e exitError) Error() string { return fmt.Sprint("exit ", int(e)) }

func run(p Proc) error {
	switch arg := p.Args[1:]; p.Args[0] {
	case "exit":
		code, err := strconv.Atoi(arg[0])
		if err != nil {
			return err
		}
		return exitError(code)
	case "echo":
		fmt.Fprintln(p.Stdout, "out", strings.Join(arg, " "))
		fmt.Fprintln(p.Stderr, "err", strings.Join(arg, " "))
	case "env":
		fmt.Fprintln(p.Stdout, p.Dir, strings.Join(p.Env, ","))
	case "extra":
		fmt.Fprintln(p.Extra[0], "three")
		fmt.Fprintln(p.Extra[1], "four")
	case "sleep":
		fmt.Fprintln(p.Stdout, "asleep")
		<-p.Ended.Done()
	case "term": // ends with status 7 on SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Fprintln(p.Stdout, "ready")
		<-c
		return exitError(7)
	case "beat": // one line every millisecond
		for p.Ended.Err() == nil {
			fmt.Fprintln(p.Stdout, "beat")
			time.Sleep(time.Millisecond)
		}
	case "write":
		return os.WriteFile(arg[0], []byte(arg[1]), 0o600)
	case "read":
		text, err := os.ReadFile(arg[0])
		p.Stdout.Write(text)
		return err
	case "await": // prints a file once it is there
		fmt.Fprintln(p.Stdout, "waiting")
		for {
			if text, err := os.ReadFile(arg[0]); err == nil {
				p.Stdout.Write(text)
				return nil
			}
			time.Sleep(time.Millisecond)
		}
	case "fill": // writes a file of at most that many MiB, and says how many there were room for
		return fill(p, arg)
	case "eat": // touches memory, MiB by MiB
		return eat(p, arg)
	case "spin":
		for p.Ended.Err() == nil {
		}
	case "fetch":
		return fetch(p, arg[0])
	default:
		return fmt.Errorf("the program does not know %q", p.Args)
	}
	return nil
}

func fill(p Proc, arg []string) error {
	most, err := strconv.Atoi(arg[1])
	if err != nil {
		return err
	}
	file, err := os.Create(arg[0])
	if err != nil {
		return err
	}
	defer file.Close()
	block := make([]byte, 1<<20)
	for n := range most {
		if _, err := file.Write(block); err != nil {
			fmt.Fprintf(p.Stdout, "%d %t\n", n, errors.Is(err, syscall.ENOSPC))
			return nil
		}
	}
	fmt.Fprintf(p.Stdout, "%d all\n", most)
	return nil
}

func eat(p Proc, arg []string) error {
	most, err := strconv.Atoi(arg[0])
	if err != nil {
		return err
	}
	var held [][]byte
	for range most {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		held = append(held, block)
	}
	fmt.Fprintln(p.Stdout, "ate", len(held))
	return nil
}

func fetch(p Proc, address string) error {
	c, err := p.Dial(address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	p.Stdout.Write(answer)
	return err
}
