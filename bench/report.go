package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// row is one figure beside the floor's.
type row struct {
	Metric string  `json:"metric"` // "warm.python.16.throughput"
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Floor  float64 `json:"floor,omitempty"` // the same of the bare server
	Ratio  float64 `json:"ratio,omitempty"` // Value / Floor
	Bar    string  `json:"bar,omitempty"`   // what the figure must reach
	Met    *bool   `json:"met,omitempty"`   // whether it does
}

// report prints each row as a JSON line at once, and all of them as a table at the end.
type report struct {
	out  *json.Encoder
	rows []row
}

func newReport(out io.Writer) *report { return &report{out: json.NewEncoder(out)} }

func (r *report) add(line row) error {
	if line.Floor != 0 {
		line.Ratio = line.Value / line.Floor
	}
	r.rows = append(r.rows, line)
	return r.out.Encode(line)
}

// bar gives a figure the bar that it must reach.
func bar(line row, text string, met func(row) bool) row {
	if line.Floor != 0 {
		line.Ratio = line.Value / line.Floor
	}
	ok := met(line)
	line.Bar, line.Met = text, &ok
	return line
}

func (r *report) table(out io.Writer) {
	fmt.Fprintf(out, "\n%-34s %12s %-6s %12s %10s  %s\n", "metric", "value", "", "floor", "ratio", "target")
	for _, line := range r.rows {
		floor, ratio, verdict := "", "", ""
		if line.Floor != 0 {
			floor, ratio = figure(line.Floor), figure(line.Ratio)
		}
		if line.Met != nil {
			verdict = line.Bar + " missed"
			if *line.Met {
				verdict = line.Bar + " met"
			}
		}
		fmt.Fprintf(out, "%-34s %12s %-6s %12s %10s  %s\n", line.Metric, figure(line.Value), line.Unit, floor, ratio, verdict)
	}
}

// figure shows a number with about four digits.
func figure(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
