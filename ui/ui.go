// Package ui is how the commands look on a terminal: colours, a progress line, tables. Where the output is not a terminal
// it is plain text without control characters, so that scripts and logs stay clean.
package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/term"
)

// Style is one of the few looks that text can have.
type Style string

// The styles, as SGR codes of ECMA-48.
const (
	Bold   Style = "1"
	Dim    Style = "2"
	Red    Style = "31"
	Green  Style = "32"
	Yellow Style = "33"
	Cyan   Style = "36"
)

// Screen is one output: standard output or standard error. Its methods are not safe for concurrent use.
type Screen struct {
	out      io.Writer
	terminal bool // somebody is looking: progress lines make sense
	colour   bool
	progress int // width of the progress line shown now
}

// New returns a screen on out. Colours need a terminal, and an environment without NO_COLOR and TERM=dumb.
func New(out io.Writer, getenv func(string) string) *Screen {
	file, isFile := out.(*os.File)
	terminal := isFile && term.IsTerminal(int(file.Fd()))
	return &Screen{out: out, terminal: terminal, colour: terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

// IsTerminal reports whether a person is looking.
func (s *Screen) IsTerminal() bool { return s.terminal }

// Paint gives text a style where colours are shown.
func (s *Screen) Paint(style Style, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + string(style) + "m" + text + "\x1b[0m"
}

// Printf writes formatted text, below the progress line if there is one.
func (s *Screen) Printf(format string, args ...any) {
	s.clear()
	fmt.Fprintf(s.out, format, args...)
}

// Write writes bytes as they are.
func (s *Screen) Write(p []byte) (int, error) {
	s.clear()
	return s.out.Write(p)
}

// Progress shows what is going on, in place of what was shown before; only a terminal shows it. "" ends it.
func (s *Screen) Progress(format string, args ...any) {
	if !s.terminal {
		return
	}
	s.clear()
	text := Safe(fmt.Sprintf(format, args...))
	if width := s.width() - 1; len([]rune(text)) > width {
		text = string([]rune(text)[:max(width, 0)])
	}
	fmt.Fprint(s.out, s.Paint(Dim, text))
	s.progress = len([]rune(text))
}

func (s *Screen) width() int {
	if file, ok := s.out.(*os.File); ok {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
			return width
		}
	}
	return 80
}

func (s *Screen) clear() {
	if s.progress > 0 {
		fmt.Fprint(s.out, "\r"+strings.Repeat(" ", s.progress)+"\r")
		s.progress = 0
	}
}

// Untrusted returns text that a function wrote as it can be shown here: a terminal gets no control characters with which
// the function could rewrite the screen; anything else gets the text as it is.
func (s *Screen) Untrusted(text string) string {
	if !s.terminal {
		return text
	}
	return Safe(text)
}

// Safe replaces control characters, except line feeds and tabs, by a visible form.
func Safe(text string) string {
	if strings.IndexFunc(text, unsafeRune) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unsafeRune(r) {
			fmt.Fprintf(&b, "\\x%02x", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func unsafeRune(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r))
}
