package collect

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"berth/catalog"
	"berth/lambda"
	"berth/store"
	"berth/store/jetstream"
)

// TestRealRecords: over the real engine, the catalog's own records keep all that they need, and what goes can be stored again.
func TestRealRecords(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	engine, err := jetstream.Open(t.Context(), jetstream.Config{Dir: t.TempDir(), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	cat := catalog.New(engine.Catalog(), "us-east-1")
	running, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { _ = cat.Run(running) }()
	<-cat.Ready()
	c := New(Config{Catalog: engine.Catalog(), Blobs: engine.Blobs(), Log: quiet})
	all := map[lambda.CodeDigest]string{}
	put := func(what, content string) lambda.CodeDigest {
		d, _, err := engine.Blobs().Put(t.Context(), strings.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		all[d] = what
		return d
	}
	image := func(what string) lambda.CodeDigest {
		config, layer := put(what+"'s configuration", `{"of":"`+what+`"}`), put(what+"'s layer", "\x1f\x8b"+what)
		return put(what, fmt.Sprintf(`{"config":{"digest":"sha256:%s"},"layers":[{"digest":"sha256:%s"}]}`, config, layer))
	}
	create := func(name string, code lambda.CodeDigest, layers ...lambda.CodeDigest) catalog.ID {
		v := catalog.Version{Version: lambda.Version{Account: "000000000001", Function: name, Runtime: "python3.11", Handler: "h.h", MemoryMB: 128, Code: code, Layers: layers}}
		f, _, err := cat.Create(t.Context(), v, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		return f.ID()
	}
	create("f", put("code", "PK code"), put("a layer of a function", "PK layer"))
	create("image", image("a function's image"))
	if _, err := cat.PublishLayer(t.Context(), catalog.LayerID{Account: "000000000001", Name: "l"}, catalog.LayerVersion{Code: put("a layer", "PK free layer")}); err != nil {
		t.Fatal(err)
	}
	if _, err := cat.AddRelease(t.Context(), "python3.11", lambda.RuntimeRelease{ID: lambda.RuntimeVersionID(image("a runtime's version"))}); err != nil {
		t.Fatal(err)
	}
	kept := len(all)
	large := strings.Repeat("PK deleted ", 100_000)
	gone := create("deleted", put("deleted code", large), put("a deleted layer", "PK deleted layer"))
	if err := cat.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}

	old, sizes := map[lambda.CodeDigest]bool{}, map[lambda.CodeDigest]int64{}
	if err := engine.Blobs().List(t.Context(), func(b store.BlobInfo) error { old[b.Digest], sizes[b.Digest] = true, b.Size; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := c.dropNamed(t.Context(), old, sizes); err != nil {
		t.Fatal(err)
	}
	if len(old) != len(all)-kept {
		t.Errorf("%d are named by nobody, want %d", len(old), len(all)-kept)
	}
	for d := range old {
		if !strings.Contains(all[d], "deleted") {
			t.Errorf("%s is named by nobody", all[d])
		}
		if gone, err := c.used.remove(t.Context(), d); !gone || err != nil {
			t.Errorf("removing %s: %t, %v", all[d], gone, err)
		}
		if _, err := c.Blobs().Open(t.Context(), d); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s is still there: %v", all[d], err)
		}
	}
	again, n, err := c.Blobs().Put(t.Context(), strings.NewReader(large))
	if err != nil || all[again] != "deleted code" || n != int64(len(large)) {
		t.Errorf("stored again: %s, %d bytes, %v", all[again], n, err)
	}
	r, err := c.Blobs().Open(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}
