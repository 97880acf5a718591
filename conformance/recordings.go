package conformance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// env names the file or folder of recordings.
const env = "LAMBDA_RECORDINGS"

// recording is one test's answers by label.
type recording struct {
	Date    string         `json:"date"` // "25-11-2025, 02:46:42"
	Answers map[string]any `json:"answers"`
}

// newer returns the fields that the recording is too old for.
func (r recording) newer() []string {
	made, err := time.Parse("02-01-2006, 15:04:05", r.Date)
	if err != nil {
		return nil
	}
	var fields []string
	for field, from := range since {
		if made.Before(from) {
			fields = append(fields, field)
		}
	}
	return fields
}

// load reads the recordings, or skips the test when there are none.
func load(t *testing.T) map[string]recording {
	t.Helper()
	path := os.Getenv(env)
	if path == "" {
		t.Skip(env + " is not set: it names the file or folder of the service's recorded answers")
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, "recordings.json")
	}
	recordings, err := read(path)
	if err != nil {
		t.Fatal(err)
	}
	return recordings
}

func read(path string) (map[string]recording, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("recordings: %w", err)
	}
	var r map[string]recording
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("recordings %s: %w", path, err)
	}
	return r, nil
}
