package main

import (
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// sample is a module with known values. The files a to d of package p form a cycle through calls, a
// type, a field and a constant. File e is not part of it.
var sample = map[string]string{
	"go.mod": "module sample\n\ngo 1.25\n",
	"p/a.go": `package p

// T has four fields: a, b, and the two of the struct without a name.
type T struct {
	a, B  int
	group struct{ c, d int }
}

type Config struct{ X, Y, Z int }

func (t *T) Publish(s Store) { t.check(); t.store(s) }
`,
	"p/b.go": `package p

type Store interface{ Put(int) }

func (t *T) store(s Store) { func() { s.Put(t.a + limit) }() }

/* A comment
   of two lines. */
func (t *T) check() { t.helper() }
`,
	"p/c.go": `package p

const limit = 1

func (t *T) helper() {
	_ = "no end"
	_ = ` + "`two\nlines`" + `
}

func (t *T) settled() { f := t.finish; f() }
`,
	"p/d.go":          "package p\n\nfunc (t *T) finish() { t.done() }\nfunc (t *T) done() {}\n",
	"p/e.go":          "package p\n\nvar e = limit\n",
	"p/d_windows.go":  "package p\n",
	"p/p_test.go":     "package p\n\n// one\n",
	"internal/l/l.go": "package l\n\nfunc init() { var _ = 1 }\n",
	"ptest/h.go":      "package ptest\n\nimport _ \"sample/p\"\n",
	"examples/e/e.go": "package main\n\nfunc main() {}\n",
	"internal/n/n.go": "package n\n",
}

func load(t *testing.T) *source.Module {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the recorded figures are those of the build for Linux")
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

var samplePath = path{
	name:     "publish",
	packages: []string{"p"},
	entries:  []string{"p.(*T).Publish", "p.(*T).settled"},
	ends:     []string{"p.(Store).Put", "p.(*T).done"},
}

func TestMeasure(t *testing.T) {
	defer func(old []string) { measuredTypes = old }(measuredTypes)
	measuredTypes = []string{"p.T", "p.Missing"}
	m := load(t)
	f, err := measure(m, []path{samplePath})
	if err != nil {
		t.Fatal(err)
	}
	if want := []typeFigures{{"p.T", 4, 7}}; !reflect.DeepEqual(f.types, want) {
		t.Errorf("types %+v, want %+v", f.types, want)
	}
	kinds := map[string]kind{}
	for _, p := range f.packages {
		kinds[p.path] = p.kind
	}
	if want := map[string]kind{"p": library, "ptest": support, "internal/l": support, "internal/n": support, "examples/e": examples}; !reflect.DeepEqual(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
	p := f.packages[slices.IndexFunc(f.packages, func(p packageFigures) bool { return p.path == "p" })]
	want := packageFigures{
		path: "p", kind: library, files: 5,
		cycle: []string{"a.go", "b.go", "c.go", "d.go"}, references: 7, // a→b, b→a, b→c, c→a, c→d, d→a, e→c
		function: "(*T).helper", functionLines: 5, file: "a.go", fileLines: 11,
		names: 3, members: 6, // T, Config, Store; T.Publish, T.B, X, Y, Z, Put
		options: []typeFigures{{"Config", 3, 0}},
		lines:   39, code: 25, testLines: 3,
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("package p\n%+v, want\n%+v", p, want)
	}
}

func TestRoute(t *testing.T) {
	c := callGraph(load(t))
	// check and helper lead to no end. done is an end. The method value in settled and the call in
	// the function literal of store count.
	got := c.route(samplePath)
	if want := (route{files: []string{"p/a.go", "p/b.go", "p/c.go", "p/d.go"}, steps: 2, reach: 4}); !reflect.DeepEqual(got, want) {
		t.Errorf("route %+v, want %+v", got, want)
	}
	short := samplePath
	short.entries = short.entries[:1]
	got = c.route(short)
	if want := (route{files: []string{"p/a.go", "p/b.go"}, steps: 1, reach: 3}); !reflect.DeepEqual(got, want) {
		t.Errorf("without settled: route %+v, want %+v", got, want)
	}
	short.ends = []string{"p.(*T).store"}
	if got := c.route(short).files; !slices.Equal(got, []string{"p/a.go"}) {
		t.Errorf("the path goes past its end: %v", got)
	}
	if names := c.unknown(path{entries: []string{"p.Missing", "p.(*T).store"}, ends: []string{"p.(Store).Put"}}); !slices.Equal(names, []string{"p.Missing"}) {
		t.Errorf("unknown names: %v", names)
	}
}

func TestLargestCycle(t *testing.T) {
	for _, tt := range []struct {
		edges string
		want  string
	}{
		{"", ""},
		{"a>b b>c a>c", ""},
		{"a>b b>a c>d d>e e>c", "c d e"},
		{"a>b b>c c>a c>d d>e e>d", "a b c"},
		{"a>b b>c c>d d>b d>a", "a b c d"},
	} {
		g := graph{}
		for _, e := range strings.Fields(tt.edges) {
			from, to, _ := strings.Cut(e, ">")
			g.add(from, to)
		}
		if got := strings.Join(largestCycle(g), " "); got != tt.want {
			t.Errorf("%s: cycle %q, want %q", tt.edges, got, tt.want)
		}
	}
}

func TestExceeded(t *testing.T) {
	all := []value{
		{"cycle", "a", library, 8, ""},
		{"cycle", "b", library, 9, "x.go"},
		{"cycle", "c", support, 9, ""},
		{"cycle", "d", examples, 9, ""},
		{"fields", "a", "", 100, ""},
	}
	got := exceeded(all, []limit{
		{measure: "cycle", subject: "*", most: 8},
		{measure: "cycle", subject: "support", most: 9},
		{measure: "cycle", subject: "d", most: 10},
		{measure: "cycle", subject: "gone", most: 1},
	})
	want := []string{"cycle of b: 9, limit 8 (x.go)", "the limit of cycle of gone applies to nothing; remove or rename it"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestReadLimits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.txt")
	for text, want := range map[string][]limit{
		"# comment\n\nfields a.T 16 69\ncycle * 8 # for all\n": {{measure: "fields", subject: "a.T", most: 16, before: "69"}, {measure: "cycle", subject: "*", most: 8}},
		"fields a.T\n":      nil,
		"fields a.T many\n": nil,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := readLimits(path); !reflect.DeepEqual(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestCompared(t *testing.T) {
	limits := []limit{{measure: "fields", subject: "a.T", most: 16, before: "69"}, {measure: "cycle", subject: "*", most: 8}}
	got := compared([]value{{"fields", "a.T", "", 15, ""}, {"cycle", "b", library, 3, ""}}, limits)
	if want := "fields     a.T                        15   limit 16   before 69\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
