// Package source loads a Go module with its syntax trees and types. The programs that check the
// structure and the API of this module use it.
//
// It uses only the go command and the standard library. Packages of the module are type-checked
// from source, so an object of one package is the same object in the packages that import it. All
// other packages are loaded from export data.
package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is a loaded module, without nested modules.
type Module struct {
	Path     string
	Dir      string
	Fset     *token.FileSet
	Packages []*Package // sorted by path
}

// Package is one package of the module, in the build configuration for Linux.
type Package struct {
	Path      string // relative to the module, for example "client/presence"
	Dir       string
	Syntax    []*ast.File // files of the build, without test files
	Types     *types.Package
	Info      *types.Info
	Imports   []string // imported packages of the module, as relative paths
	Files     []string // names of all non-test files, for every system
	TestFiles []string // names of all test files
}

// listed is the part of the output of go list that Load needs.
type listed struct {
	ImportPath string
	Dir        string
	Export     string
	Module     *struct {
		Path string
		Dir  string
		Main bool
	}
	GoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
	Imports                                            []string
}

// Load loads the packages of the module in dir.
func Load(dir string) (*Module, error) {
	all, err := list(dir, "-deps", "./...")
	if err != nil {
		return nil, err
	}
	var own []listed // in dependency order, as go list -deps prints them
	var others []string
	for _, p := range all {
		switch {
		case p.Module != nil && p.Module.Main:
			own = append(own, p)
		case p.ImportPath != "unsafe":
			others = append(others, p.ImportPath)
		}
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("source: no packages in %s", dir)
	}
	exports := map[string]string{}
	if len(others) > 0 {
		all, err := list(dir, append([]string{"-export"}, others...)...)
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			exports[p.ImportPath] = p.Export
		}
	}
	m := &Module{Path: own[0].Module.Path, Dir: own[0].Module.Dir, Fset: token.NewFileSet()}
	imports := &modulePackages{checked: map[string]*types.Package{}, others: importer.ForCompiler(m.Fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("source: no export data of %s", path)
		}
		return os.Open(exports[path])
	})}
	for _, l := range own {
		p, err := m.check(l, imports)
		if err != nil {
			return nil, err
		}
		imports.checked[l.ImportPath] = p.Types
		m.Packages = append(m.Packages, p)
	}
	slices.SortFunc(m.Packages, func(a, b *Package) int { return strings.Compare(a.Path, b.Path) })
	return m, nil
}

// Package returns the package with a path relative to the module, or nil.
func (m *Module) Package(path string) *Package {
	for _, p := range m.Packages {
		if p.Path == path {
			return p
		}
	}
	return nil
}

// Relative returns the path of an imported package relative to the module, and whether the package
// belongs to the module.
func (m *Module) Relative(path string) (string, bool) {
	if path == m.Path {
		return ".", true
	}
	return strings.CutPrefix(path, m.Path+"/")
}

func (m *Module) check(l listed, imports types.Importer) (*Package, error) {
	p := &Package{Dir: l.Dir, Files: slices.Clone(l.GoFiles), TestFiles: append(slices.Clone(l.TestGoFiles), l.XTestGoFiles...)}
	p.Path, _ = m.Relative(l.ImportPath)
	for _, name := range l.IgnoredGoFiles { // files of other systems or build tags
		if strings.HasSuffix(name, "_test.go") {
			p.TestFiles = append(p.TestFiles, name)
		} else {
			p.Files = append(p.Files, name)
		}
	}
	for _, path := range l.Imports {
		if short, ok := m.Relative(path); ok {
			p.Imports = append(p.Imports, short)
		}
	}
	for _, name := range l.GoFiles {
		f, err := parser.ParseFile(m.Fset, filepath.Join(l.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("source: parse: %w", err)
		}
		p.Syntax = append(p.Syntax, f)
	}
	p.Info = &types.Info{
		Defs:       map[*ast.Ident]types.Object{},
		Uses:       map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
		Types:      map[ast.Expr]types.TypeAndValue{},
	}
	var err error
	config := types.Config{Importer: imports, Sizes: types.SizesFor("gc", "amd64")}
	if p.Types, err = config.Check(l.ImportPath, m.Fset, p.Syntax, p.Info); err != nil {
		return nil, fmt.Errorf("source: check %s: %w", p.Path, err)
	}
	return p, nil
}

// modulePackages imports packages that are already type-checked, and loads others from export data.
type modulePackages struct {
	checked map[string]*types.Package
	others  types.Importer
}

func (i *modulePackages) Import(path string) (*types.Package, error) {
	if p := i.checked[path]; p != nil {
		return p, nil
	}
	return i.others.Import(path)
}

func list(dir string, args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Export,Module,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Imports"}, args...)...)
	cmd.Dir = dir
	// Use the same configuration on every system.
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOFLAGS=-mod=readonly", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("source: go list: %w: %s", err, stderr.Bytes())
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var l listed
		if err := d.Decode(&l); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("source: go list: %w", err)
		}
		all = append(all, l)
	}
}
