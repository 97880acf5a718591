package code

import (
	"archive/zip"
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
)

// sizes notes how long each write was.
type sizes struct {
	bytes.Buffer
	each []int
}

func (s *sizes) Write(b []byte) (int, error) {
	s.each = append(s.each, len(b))
	return s.Buffer.Write(b)
}

// Large files must reach the file system in pieces of a huge page, each where one begins, or processes map them page by page.
func TestLargeFilesAreWrittenInHugePages(t *testing.T) {
	content := make([]byte, 2*hugePage+12345)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(content[:hugePage+1]) // the rest is compressible: reads of another length
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	f, err := w.Create("bootstrap")
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
	if err != nil {
		t.Fatal(err)
	}
	n := node{file: r.File[0]}
	var got sizes
	written, err := n.copyTo(io.Writer(&got), make([]byte, copyBuffer))
	if err != nil || written != int64(len(content)) || !bytes.Equal(got.Bytes(), content) {
		t.Fatalf("%d bytes written of %d, error %v", written, len(content), err)
	}
	if len(got.each) != 3 || got.each[0] != hugePage || got.each[1] != hugePage {
		t.Fatalf("pieces of %v bytes were written, expected two of %d and the rest", got.each, hugePage)
	}
}
