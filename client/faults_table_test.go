package client_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// faultsNamed are the faults that docs/faults.md must list, each with a test.
var faultsNamed = []string{
	"DNS fails and recovers", "the server refuses TCP connections", "TLS files expire and are renewed", "the password is wrong at first", "the proxy is down", "the server redirects the client",
	"another client takes over the session", "the client receives nothing more", "the server receives nothing more", "the server sends no CONNACK", "the broker restarts in any state",
	"the connection is cut 1,000 times in a row", "Close is called in any state", "a handler calls Close",
}

var testInTable = regexp.MustCompile("`(?:([a-z/]+) )?((?:Test|Benchmark)[A-Za-z0-9_]+)`")

// docs/faults.md lists each fault and names existing tests.
func TestDocs_FaultsAreTested(t *testing.T) {
	text, err := os.ReadFile("../docs/faults.md")
	must(t, err)
	there := map[string]bool{}
	for _, dir := range []string{"client", "internal/link", "reliability", "examples/device", "examples/backend", "examples/status"} {
		for _, name := range testsIn(t, filepath.Join("..", dir)) {
			there[dir+" "+name] = true
			if !strings.HasPrefix(dir, "examples") {
				there[" "+name] = true
			}
		}
	}
	named, faults := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		tests := testInTable.FindAllStringSubmatch(line, -1)
		for _, m := range tests {
			named[m[2]] = true
			if !there[m[1]+" "+m[2]] {
				t.Errorf("there is no %s %s", m[1], m[2])
			}
		}
		if cells := strings.Split(line, "|"); len(cells) == 5 && len(tests) > 0 {
			faults[strings.TrimSpace(cells[1])] = true
		}
	}
	for _, fault := range faultsNamed {
		if !faults[fault] {
			t.Errorf("no row with a test for: %s", fault)
		}
	}
	for _, name := range testsIn(t, ".") {
		if (strings.HasPrefix(name, "TestFault") || strings.HasPrefix(name, "TestFleet")) && !named[name] {
			t.Errorf("%s is in no row", name)
		}
	}
}

// testsIn returns the tests and benchmarks of a package.
func testsIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s (%v)", dir, err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		must(t, err)
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Benchmark")) {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}
