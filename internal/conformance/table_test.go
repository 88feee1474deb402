package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// These tests compare the table in docs/conformance.md with the list of all statements, the tests
// of this package, and the names of the code that implements them.

const tableFile = "../../docs/conformance.md"

// row is a line of the table.
type row struct {
	statement, test, where string
	client                 bool // it applies to a client
}

// excuses are the texts that may replace a test's name.
var excuses = []string{"by construction", "not applicable", "application's duty"}

var (
	statementRow  = regexp.MustCompile(`^\| (\d[\d.]*-\d+) \|`)
	statementName = regexp.MustCompile(`\d+\.[\d.]*\d-\d+`)
	quotedName    = regexp.MustCompile("`([A-Za-z][A-Za-z.]*)`")
)

// readTable returns the rows, and the statements that bind servers only.
func readTable(t *testing.T) (rows []row, servers []string) {
	t.Helper()
	text, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	part := ""
	for line := range strings.Lines(string(text)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			part = strings.TrimSpace(heading)
		}
		switch {
		case statementRow.MatchString(line):
			cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
			if len(cells) != 4 {
				t.Errorf("%d cells, want 4: %s", len(cells), line)
				continue
			}
			rows = append(rows, row{statement: strings.TrimSpace(cells[0]), test: strings.Trim(cells[2], " `"),
				where: cells[3], client: part == "Clients"})
		case part == "Servers only" && strings.HasPrefix(line, "- "):
			_, list, _ := strings.Cut(line, ":")
			servers = append(servers, statementName.FindAllString(list, -1)...)
		}
	}
	return rows, servers
}

// testName returns the name of the test of a statement.
func testName(statement string) string {
	return "TestMQTT_" + strings.NewReplacer(".", "_", "-", "_").Replace(statement)
}

func TestTable_HasEveryStatementOnce(t *testing.T) {
	list, err := os.ReadFile("testdata/statements.txt")
	if err != nil {
		t.Fatal(err)
	}
	rows, servers := readTable(t)
	times := map[string]int{}
	for _, r := range rows {
		times[r.statement]++
	}
	for _, s := range servers {
		times[s]++
	}
	for _, s := range strings.Fields(string(list)) {
		if n := times[s]; n != 1 {
			t.Errorf("statement %s is %d times in %s, want once", s, n, tableFile)
		}
		delete(times, s)
	}
	for s := range times {
		t.Errorf("there is no statement %s", s)
	}
}

func TestTable_NamesTheTests(t *testing.T) {
	tests := testFunctions(t)
	rows, servers := readTable(t)
	var clients, tested, watched int
	for _, r := range rows {
		if r.client {
			clients++
		}
		switch want := testName(r.statement); {
		case r.test == want && tests[want]:
			if delete(tests, want); r.client {
				tested++
			} else {
				watched++
			}
		case r.test == want:
			t.Errorf("statement %s: there is no %s", r.statement, want)
		case !slices.Contains(excuses, r.test):
			t.Errorf("statement %s: the test is %q, want %s or one of %q", r.statement, r.test, want, excuses)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Errorf("%s is in no row of %s", name, tableFile)
	}
	fmt.Printf("%d client statements: %d tested, %d by construction or not applicable; %d of servers tested where a client has a part, %d left to servers\n",
		clients, tested, clients-tested, watched, len(rows)-clients-watched+len(servers))
}

// testFunctions returns the tests of statements in this package.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for name := range declared(t, ".", "_test.go") {
		if strings.HasPrefix(name, "TestMQTT_") {
			names[name] = true
		}
	}
	return names
}

func TestTable_NamesTheCode(t *testing.T) {
	names := map[string]bool{}
	dirs, _ := filepath.Glob("../*")
	for _, dir := range append(dirs, "../../client", "../../persistence") {
		if files, _ := filepath.Glob(filepath.Join(dir, "*.go")); len(files) > 0 {
			maps.Copy(names, declared(t, dir, ".go"))
		}
	}
	rows, _ := readTable(t)
	for _, r := range rows {
		for _, m := range quotedName.FindAllStringSubmatch(r.where, -1) {
			if !names[m[1]] {
				t.Errorf("statement %s is said to be kept by %s, which is not there", r.statement, m[1])
			}
		}
		if strings.TrimSpace(r.where) == "" {
			t.Errorf("statement %s: no place is named where it is kept", r.statement)
		}
	}
}

// declared returns the functions, types, methods and fields of a package, alone and qualified by
// their type, their package, or both.
func declared(t *testing.T, dir, suffix string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s (%v)", dir, err)
	}
	names := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		add := func(parts ...string) {
			for i := range parts {
				names[strings.Join(parts[i:], ".")] = true
				names[f.Name.Name+"."+strings.Join(parts[i:], ".")] = true
			}
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil {
					add(d.Name.Name)
				} else if recv := source.Receiver(d); recv != "" {
					add(recv, d.Name.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok {
						add(s.Name.Name)
						for _, member := range members(s) {
							add(s.Name.Name, member)
						}
					}
				}
			}
		}
	}
	return names
}

// members returns the fields of a struct or the methods of an interface.
func members(s *ast.TypeSpec) (names []string) {
	var list *ast.FieldList
	switch typ := s.Type.(type) {
	case *ast.StructType:
		list = typ.Fields
	case *ast.InterfaceType:
		list = typ.Methods
	default:
		return nil
	}
	for _, field := range list.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}
