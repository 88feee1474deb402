package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// measuredTypes are the types whose fields and methods are counted.
var measuredTypes = []string{"client.Client", "persistence.Log"}

// optionTypes are the types whose top-level fields are counted in each package.
var optionTypes = []string{"Config", "Options"}

// figures holds the measured values.
type figures struct {
	types    []typeFigures
	paths    []pathFigures
	packages []packageFigures
}

type typeFigures struct {
	name            string
	fields, methods int
}

type pathFigures struct {
	path
	route
}

// packageFigures describes one package. Test files count only in testLines.
type packageFigures struct {
	path           string
	kind           kind
	files          int      // of the Linux build
	cycle          []string // files of the largest reference cycle
	references     int      // number of references between files
	function       string   // longest function
	functionLines  int
	file           string // longest file
	fileLines      int
	names, members int // exported names of the package; exported methods and fields of its types
	options        []typeFigures
	lines          int // all lines, for every system
	code           int // lines that contain code, for every system
	testLines      int
}

// kind is the purpose of a package.
type kind string

const (
	library  kind = "library"  // public, or imported by a public package
	support  kind = "support"  // only tests, benchmarks and checks use it
	examples kind = "examples" // programs
)

func measure(m *source.Module, paths []path) (*figures, error) {
	f := &figures{}
	kinds := packageKinds(m)
	for _, p := range m.Packages {
		one, err := measurePackage(m, p)
		if err != nil {
			return nil, err
		}
		one.kind = kinds[p.Path]
		f.packages = append(f.packages, one)
	}
	for _, name := range measuredTypes {
		dot := strings.LastIndexByte(name, '.')
		if p := m.Package(name[:dot]); p != nil {
			if t, ok := p.Types.Scope().Lookup(name[dot+1:]).(*types.TypeName); ok {
				f.types = append(f.types, measureType(name, t.Type()))
			}
		}
	}
	c := callGraph(m)
	for _, p := range paths {
		f.paths = append(f.paths, pathFigures{path: p, route: c.route(p)})
	}
	return f, nil
}

// packageKinds separates library packages from others. Public packages whose names end in "test"
// are support. An internal package that no public package imports is support too.
func packageKinds(m *source.Module) map[string]kind {
	kinds := map[string]kind{}
	var mark func(path string)
	mark = func(path string) {
		if kinds[path] == library {
			return
		}
		kinds[path] = library
		if p := m.Package(path); p != nil {
			for _, i := range p.Imports {
				mark(i)
			}
		}
	}
	for _, p := range m.Packages {
		if isPublic(p) && !strings.HasSuffix(p.Path, "test") {
			mark(p.Path)
		}
	}
	for _, p := range m.Packages {
		switch {
		case kinds[p.Path] == library:
		case strings.HasPrefix(p.Path, "examples/"):
			kinds[p.Path] = examples
		default:
			kinds[p.Path] = support
		}
	}
	return kinds
}

func isPublic(p *source.Package) bool {
	return p.Types.Name() != "main" && !slices.Contains(strings.Split(p.Path, "/"), "internal")
}

func measureType(name string, t types.Type) typeFigures {
	f := typeFigures{name: name}
	if named, ok := types.Unalias(t).(*types.Named); ok {
		f.methods = named.NumMethods()
	}
	f.fields = fields(t.Underlying())
	return f
}

// fields counts the fields of a struct. A field with an anonymous struct type counts as the fields
// of that struct, because it only groups them.
func fields(t types.Type) (n int) {
	s, ok := t.(*types.Struct)
	if !ok {
		return 0
	}
	for field := range s.Fields() {
		if inner, ok := field.Type().(*types.Struct); ok && inner.NumFields() > 0 {
			n += fields(inner)
		} else {
			n++
		}
	}
	return n
}

func measurePackage(m *source.Module, p *source.Package) (f packageFigures, err error) {
	f.path, f.files = p.Path, len(p.Syntax)
	references := fileReferences(m.Fset, p)
	f.cycle, f.references = largestCycle(references), references.edges()
	for _, syntax := range p.Syntax {
		for _, d := range syntax.Decls {
			d, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := m.Fset.Position(d.End()).Line - m.Fset.Position(d.Pos()).Line + 1; n > f.functionLines {
				f.function, f.functionLines = functionName(d), n
			}
		}
	}
	for _, name := range p.Files {
		text, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return f, err
		}
		lines := bytes.Count(text, []byte("\n"))
		if lines > f.fileLines {
			f.file, f.fileLines = name, lines
		}
		f.lines += lines
		f.code += codeLines(text)
	}
	for _, name := range p.TestFiles {
		text, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return f, err
		}
		f.testLines += bytes.Count(text, []byte("\n"))
	}
	if p.Types.Name() != "main" {
		f.names, f.members = exported(p.Types)
		for _, name := range optionTypes {
			if t, ok := p.Types.Scope().Lookup(name).(*types.TypeName); ok {
				f.options = append(f.options, measureType(name, t.Type()))
			}
		}
	}
	return f, nil
}

func functionName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	star := ""
	if s, ok := t.(*ast.StarExpr); ok {
		t, star = s.X, "*"
	}
	switch generic := t.(type) {
	case *ast.IndexExpr:
		t = generic.X
	case *ast.IndexListExpr:
		t = generic.X
	}
	return fmt.Sprintf("(%s%s).%s", star, t.(*ast.Ident).Name, d.Name.Name)
}

// codeLines counts the lines that contain a token other than a comment.
func codeLines(text []byte) int {
	fset := token.NewFileSet()
	f := fset.AddFile("", -1, len(text))
	lines := map[int]bool{}
	for pos, end := range tokens(f, text) {
		for line := f.Line(pos); line <= f.Line(end); line++ {
			lines[line] = true
		}
	}
	return len(lines)
}

// exported counts the exported names of a package, and the exported methods and fields of its
// exported types.
func exported(p *types.Package) (names, members int) {
	for _, name := range p.Scope().Names() {
		object := p.Scope().Lookup(name)
		if !object.Exported() {
			continue
		}
		names++
		t, ok := object.(*types.TypeName)
		if !ok {
			continue
		}
		if named, ok := types.Unalias(t.Type()).(*types.Named); ok {
			for method := range named.Methods() {
				if method.Exported() {
					members++
				}
			}
		}
		switch u := t.Type().Underlying().(type) {
		case *types.Struct:
			for field := range u.Fields() {
				if field.Exported() {
					members++
				}
			}
		case *types.Interface:
			for method := range u.Methods() {
				if method.Exported() {
					members++
				}
			}
		}
	}
	return names, members
}
