package main

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/source"
)

var sample = map[string]string{
	"go.mod": "module sample\n\ngo 1.25\n",
	"p/p.go": `package p

import (
	"io"

	"sample/internal/q"
)

const C = 1 << 3
const D kind = "d"
const hidden = 1

var V, w int

type kind string
type T struct {
	A, B int ` + "`json:\"a\"`" + `
	io.Reader
	c int
	embedded
}
type embedded struct{}

func (embedded) Promoted() {}
func (t *T) Pointer(x int) (n int, err error) { return 0, nil }
func (t T) Value(f func(T) *q.E) {}
func (t T) hidden() {}

type Open struct{}
type I interface {
	io.Closer
	M(...T)
	sealed()
}
type G[K comparable, V any] struct{ M map[K]V }

func (g *G[K, V]) Get(k K) V { return g.M[k] }

type Number interface{ ~int | ~string }
type E = q.E
type F func(int) string

func Do[X Number](x X, all ...io.Reader) {}
`,
	"internal/q/q.go": "package q\n\ntype E struct{ Code byte; c int }\n\nfunc (e *E) Error() string { return \"\" }\n",
	"cmd/c/c.go":      "package main\n\nfunc main() {}\n",
}

const sampleAPI = `const C untyped int = 8
const D kind = "d"
func Do[X Number](x X, all ...io.Reader)
method (*E) Error() string
method (*G) Get(k K) V
method (*T) Pointer(x int) (n int, err error)
method (T) Promoted()
method (T) Read(p []byte) (n int, err error)
method (T) Value(f func(T) *q.E)
type E = q.E
type E struct, Code byte
type E struct, unexported fields
type F func(int) string
type G struct, M map[K]V
type G[K comparable, V any] struct
type I interface
type I interface, Close() error
type I interface, M(...T)
type I interface, unexported methods
type Number interface
type Number interface, interface{~int | ~string}
type Open struct
type T struct
type T struct, A int
type T struct, B int
type T struct, embeds io.Reader
type T struct, unexported fields
var V int`

func loadSample(t *testing.T) *source.Module {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the recorded API is that of the build for Linux")
	}
	dir := t.TempDir()
	for name, text := range sample {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := source.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAPI(t *testing.T) {
	m := loadSample(t)
	public := publicPackages(m)
	if len(public) != 1 || public[0].Path != "p" {
		t.Fatalf("%d public packages, want p", len(public))
	}
	for _, line := range difference("p", strings.Split(sampleAPI, "\n"), api(public[0].Types)) {
		t.Error(line)
	}
}

func TestCompare(t *testing.T) {
	m := loadSample(t)
	folder := filepath.Join(m.Dir, "docs", "api")
	if err := record(m, folder); err != nil {
		t.Fatal(err)
	}
	if problems, err := compare(m, folder); err != nil || len(problems) > 0 {
		t.Fatalf("after recording: %q, %v", problems, err)
	}
	changed := strings.Replace(sampleAPI, "const C untyped int = 8", "const C untyped int = 9", 1)
	if err := os.WriteFile(filepath.Join(folder, "p.txt"), []byte(changed+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "gone.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	problems, err := compare(m, folder)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"p: - const C untyped int = 9", "p: + const C untyped int = 8", "docs/api/gone.txt: the package does not exist"}
	if !slices.Equal(problems[:len(problems)-1], want) || !strings.Contains(problems[len(problems)-1], update) {
		t.Errorf("problems %q, want %q and the command", problems, want)
	}
	if err := record(m, folder); err != nil {
		t.Fatal(err)
	}
	if problems, err := compare(m, folder); err != nil || len(problems) > 0 {
		t.Errorf("after recording again: %q, %v", problems, err)
	}
}

// TestRecordedAPI compares the API of this module with docs/api.
func TestRecordedAPI(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the recorded API is that of the build for Linux")
	}
	m, err := source.Load(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	problems, err := compare(m, filepath.Join(m.Dir, "docs", "api"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
}
