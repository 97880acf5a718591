package replay

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// Line is one policy at several settings.
type Line struct {
	Name    string
	Results []*Result
}

// Size and margins of the plot, in pixels.
const (
	width, height = 760, 480
	left, right   = 80, 30
	top, bottom   = 50, 60
)

var colours = []string{"#b04a3a", "#2f6f8f", "#5a8f3a", "#8f6f2f"}

// Plot draws cold starts (per cent of the calls, logarithmic) against idle memory as an SVG image.
func Plot(lines []Line) []byte {
	most, low, high := 0.0, math.Inf(1), 0.0
	for _, l := range lines {
		for _, r := range l.Results {
			most = max(most, r.IdleGBh)
			low, high = min(low, share(r)), max(high, share(r))
		}
	}
	low, high = math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	x := func(gbh float64) float64 { return left + gbh/most*(width-left-right)*0.95 }
	y := func(percent float64) float64 {
		return top + (high-math.Log10(percent))/max(1, high-low)*(height-top-bottom)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="%d" y="24" font-size="15">Cold starts against idle memory, one day</text>`+"\n", left)
	for e := low; e <= high; e++ {
		at := y(math.Pow(10, e))
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%g %%</text>`+"\n", left, at, width-right, left-8, at+4, math.Pow(10, e))
	}
	for i := range 6 {
		gbh := most * float64(i) / 5
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(gbh), height-bottom+20, gbh)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">GB·h held by idle environments</text>`+"\n", width/2, height-16)
	for i, l := range lines {
		drawLine(&b, l, colours[i%len(colours)], top+18*i, x, y)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

func drawLine(b *bytes.Buffer, l Line, colour string, legend int, x, y func(float64) float64) {
	var path string
	for i, r := range l.Results {
		command := "L"
		if i == 0 {
			command = "M"
		}
		px, py := x(r.IdleGBh), y(share(r))
		path += fmt.Sprintf("%s%.1f %.1f", command, px, py)
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/><text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n",
			px, py, colour, px+7, py-7, colour, html.EscapeString(r.Name))
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`, path, colour)
	fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="%s">%s</text>`+"\n", width-right, legend, colour, html.EscapeString(l.Name))
}

func share(r *Result) float64 { return max(100*r.ColdShare(), 1e-4) }
