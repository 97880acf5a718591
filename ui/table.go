package ui

import (
	"strings"
	"unicode/utf8"
)

// Table writes rows in columns under a header; the last column is not padded. Rows shorter than the header are filled.
func (s *Screen) Table(header []string, rows [][]string) {
	widths := make([]int, len(header))
	for i, title := range header {
		widths[i] = utf8.RuneCountInString(title)
	}
	for _, row := range rows {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	s.Printf("%s\n", s.Paint(Bold, line(header, widths)))
	for _, row := range rows {
		s.Printf("%s\n", line(row, widths))
	}
}

func line(cells []string, widths []int) string {
	var b strings.Builder
	for i, width := range widths {
		cell := ""
		if i < len(cells) {
			cell = cells[i]
		}
		b.WriteString(cell)
		b.WriteString(strings.Repeat(" ", width-utf8.RuneCountInString(cell)+2))
	}
	return strings.TrimRight(b.String(), " ")
}
