// Package replay runs a recorded day of calls against keep-alive policies of package manager.
package replay

import (
	"compress/gzip"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// MinutesPerDay is the length of a trace.
const MinutesPerDay = 1440

// percentiles are those of which the traces give run times.
var percentiles = [...]float64{0, 1, 25, 50, 75, 99, 100}

// Function is one function of a trace.
type Function struct {
	Calls    [MinutesPerDay]uint32
	RunTimes [len(percentiles)]float64 // ms, at percentiles
	MemoryMB float64
}

// Load reads a sample of the Azure Functions 2019 traces as the vHive project publishes it: NAME_inv.csv.gz (calls per
// minute), NAME_run.csv.gz (run times) and NAME_mem.csv.gz (memory), one row per function, in the same order.
func Load(dir, name string) ([]Function, error) {
	calls, err := read(dir, name+"_inv", 3+MinutesPerDay)
	if err != nil {
		return nil, err
	}
	runs, err := read(dir, name+"_run", 7+len(percentiles))
	if err != nil {
		return nil, err
	}
	memory, err := read(dir, name+"_mem", 4)
	if err != nil {
		return nil, err
	}
	if len(runs) != len(calls) || len(memory) != len(calls) {
		return nil, fmt.Errorf("the trace %s has %d functions with calls, %d with run times and %d with memory; expected equal numbers",
			name, len(calls), len(runs), len(memory))
	}
	functions := make([]Function, len(calls))
	for i := range functions {
		f := &functions[i]
		for m, n := range calls[i][:MinutesPerDay] {
			f.Calls[m] = uint32(n)
		}
		copy(f.RunTimes[:], runs[i][4:])
		f.MemoryMB = memory[i][1] // the average; the number of samples stands before it
	}
	return functions, nil
}

// read returns the numbers of each row, from its first numeric column on: the hashes before it name the function.
func read(dir, name string, columns int) ([][]float64, error) {
	path := filepath.Join(dir, name+".csv.gz")
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	records, err := csv.NewReader(unzipped).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var rows [][]float64
	for i, record := range records[min(1, len(records)):] {
		if len(record) < columns {
			return nil, fmt.Errorf("%s: row %d has %d columns, expected at least %d", path, i+2, len(record), columns)
		}
		var row []float64
		for _, text := range record {
			if len(text) >= hashLength {
				continue
			}
			x, err := strconv.ParseFloat(text, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: row %d: %q is no number", path, i+2, text)
			}
			row = append(row, x)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// hashLength is that of the names, in hexadecimal digits.
const hashLength = 64
