package ui

import (
	"bytes"
	"os"
	"testing"
)

func none(string) string { return "" }

func TestPlainWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	s := New(&out, none)
	s.Progress("waiting for %s", "hello")
	s.Printf("%s %s\n", s.Paint(Red, "failed:"), s.Untrusted("a\x1b[2Jb"))
	if got := out.String(); got != "failed: a\x1b[2Jb\n" {
		t.Errorf("got %q", got)
	}
	if s.IsTerminal() {
		t.Error("a buffer is no terminal")
	}
	pipe, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer w.Close()
	if New(w, none).IsTerminal() {
		t.Error("a pipe is no terminal")
	}
}

func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	s := &Screen{out: &out, terminal: true, colour: true}
	s.Progress("one")
	s.Progress("two\x07")
	s.Printf("%s\n", s.Paint(Green, "done"))
	want := "\x1b[2mone\x1b[0m" + "\r   \r" + "\x1b[2mtwo\\x07\x1b[0m" + "\r       \r" + "\x1b[32mdone\x1b[0m\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := s.Untrusted("bell\x07 and \u202ereversed\n\tkept"); got != "bell\\x07 and \\x202ereversed\n\tkept" {
		t.Errorf("got %q", got)
	}
}

func TestLongProgressIsCut(t *testing.T) {
	var out bytes.Buffer
	s := &Screen{out: &out, terminal: true}
	s.Progress("%0200d", 0)
	if out.Len() != 79 {
		t.Errorf("progress line has %d columns, want 79", out.Len())
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	New(&out, none).Table([]string{"NAME", "RUNTIME"}, [][]string{{"hello", "python3.11"}, {"ünïcode-name"}})
	want := "NAME          RUNTIME\nhello         python3.11\nünïcode-name\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
