package clientfile

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func example() File {
	return File{
		Endpoint: "http://127.0.0.1:9000", AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret/with+signs",
		Account: "000000000001", Region: "us-east-1", Runtimes: []string{"python3.11", "nodejs20.x"},
	}
}

func TestSaveThenLoad(t *testing.T) {
	dir := t.TempDir()
	for _, endpoint := range []string{"http://127.0.0.1:9000", "http://127.0.0.1:9001"} {
		want := example()
		want.Endpoint = endpoint
		if err := Save(dir, want); err != nil {
			t.Fatal(err)
		}
		got, err := Load(dir)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	}
	info, err := os.Stat(Path(dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("%d files left in the directory, want client.json only", len(entries))
	}
}

func TestLoadRefuses(t *testing.T) {
	good := `{"endpoint":"http://127.0.0.1:9000","access_key_id":"A","secret_access_key":"s3cr3t"}`
	for _, c := range []struct {
		name, content, want string
		mode                os.FileMode
	}{
		{"readable by the group", good, "chmod 600", 0o640},
		{"readable by the world", good, "chmod 600", 0o604},
		{"no JSON", "endpoint=…", "not a client file", 0o600},
		{"empty", "", "not a client file", 0o600},
		{"no secret", `{"endpoint":"http://127.0.0.1:9000","access_key_id":"A"}`, "lacks the endpoint or the key", 0o600},
		{"too big", good + strings.Repeat(" ", maxSize), "at most", 0o600},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(Path(dir), []byte(c.content), c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(Path(dir), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want an error with %q", err, c.want)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestLoadMissing(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, ErrMissing) {
		t.Fatalf("got %v, want ErrMissing", err)
	}
}

func TestSaveWithoutDirectory(t *testing.T) {
	if err := Save(filepath.Join(t.TempDir(), "nowhere"), example()); err == nil {
		t.Fatal("saved into a directory that does not exist")
	}
}
