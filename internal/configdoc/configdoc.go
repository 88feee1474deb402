// Package configdoc generates docs/reference/configuration.md from the doc comments of the
// configuration structs. Tests of the packages compare the documented defaults with the code.
//
//	go test ./internal/configdoc -update-docs   writes the page
package configdoc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"regexp"
	"strings"
)

// Page is the path of the page in the module.
const Page = "docs/reference/configuration.md"

// packages are the packages whose structs the page describes.
var packages = []string{"client", "persistence", "dedupe", "ordering", "reliability"}

// roots are the structs from which the page begins. Structs that their fields use follow.
var roots = []string{"client.Config", "dedupe.Options"}

// Field is a field of a struct.
type Field struct {
	Name, Type string
	Text       string // the doc comment, as one line
	Struct     string // the struct of the page that the type uses, such as "client.Will"; or empty
	Embedded   bool
}

// Struct is a struct of the page.
type Struct struct {
	Name   string // such as "client.Config"
	Doc    string
	Fields []Field
	Used   []string // paths of the fields that use it, such as "Connection.Backoff"
}

// Source is the parsed packages.
type Source struct {
	structs   map[string]*Struct
	constants map[string]int64 // values of the iota constants, by name, such as "client.Reject"
}

// Read parses the packages of the module in root.
func Read(root string) (*Source, error) {
	s := &Source{map[string]*Struct{}, map[string]int64{}}
	for _, pkg := range packages {
		files, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, d := range f.Decls {
				if d, ok := d.(*ast.GenDecl); ok {
					s.declaration(pkg, d)
				}
			}
		}
	}
	for _, st := range s.structs {
		pkg, _, _ := strings.Cut(st.Name, ".")
		for i := range st.Fields {
			st.Fields[i].Struct = s.uses(pkg, st.Fields[i].Type)
		}
	}
	return s, nil
}

func (s *Source) declaration(pkg string, d *ast.GenDecl) {
	iota := false
	for n, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.ValueSpec:
			if len(spec.Values) == 1 {
				id, ok := spec.Values[0].(*ast.Ident)
				iota = ok && id.Name == "iota"
			} else if len(spec.Values) > 1 {
				iota = false
			}
			if iota && d.Tok == token.CONST {
				for _, name := range spec.Names {
					s.constants[pkg+"."+name.Name] = int64(n)
				}
			}
		case *ast.TypeSpec:
			if st, ok := spec.Type.(*ast.StructType); ok && spec.Name.IsExported() {
				doc := d.Doc
				if spec.Doc != nil {
					doc = spec.Doc
				}
				s.structs[pkg+"."+spec.Name.Name] = &Struct{Name: pkg + "." + spec.Name.Name, Doc: line(doc.Text()), Fields: fields(st)}
			}
		}
	}
}

func fields(st *ast.StructType) (list []Field) {
	for _, f := range st.Fields.List {
		text := line(f.Doc.Text())
		if f.Doc == nil {
			text = line(f.Comment.Text())
		}
		typ := types.ExprString(f.Type)
		if len(f.Names) == 0 {
			list = append(list, Field{Name: typ[strings.LastIndex(typ, ".")+1:], Type: typ, Text: text, Embedded: true})
		}
		for _, name := range f.Names {
			if name.IsExported() {
				list = append(list, Field{Name: name.Name, Type: typ, Text: text})
			}
		}
	}
	return list
}

// line joins the lines of a comment.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }

// uses returns the name of the struct that a type consists of, if the page describes it.
func (s *Source) uses(pkg, typ string) string {
	typ = strings.TrimLeft(typ, "*[]")
	if !strings.Contains(typ, ".") {
		typ = pkg + "." + typ
	}
	if s.structs[typ] == nil {
		return ""
	}
	return typ
}

// values are structs of the page that hold values and not settings, so they have no defaults.
var values = map[string]bool{"client.Position": true}

var (
	required = regexp.MustCompile(`[;.] ([Rr]equired\b[^.;]*)`)
	defaults = regexp.MustCompile(`(?:^|[;.,] )[Dd]efault:? (.+?)(?:\. |\.?$|; )`)
	sentence = regexp.MustCompile(`^(.+?)(?:\. [A-Z]|\.?$)`)
)

// Default returns the default that the doc comment names.
func (f Field) Default() (text string, ok bool) {
	if m := defaults.FindStringSubmatch(f.Text); m != nil {
		return m[1], true
	}
	if m := required.FindStringSubmatch(f.Text); m != nil {
		return strings.ToLower(m[1][:1]) + m[1][1:], true
	}
	switch {
	case f.Type == "bool":
		return "false", true
	case f.Struct != "" && !strings.ContainsAny(f.Type, "*[]"):
		return "", true // the defaults of its fields
	}
	return "", false
}

// Meaning returns the first sentence of the doc comment, without the name and the default.
func (f Field) Meaning() string {
	text := f.Text
	if i := defaults.FindStringSubmatchIndex(text); i != nil {
		end := min(i[3]+1, len(text))
		if i[0] == 0 {
			text = strings.TrimSpace(text[end:])
		} else if text[i[0]] != '.' {
			text = strings.TrimRight(text[:i[0]], " ")
		} else {
			text = text[:i[0]+1]
		}
	}
	text = strings.TrimSuffix(required.ReplaceAllString(text, "."), ".")
	if m := sentence.FindStringSubmatch(text); m != nil {
		text = m[1]
	}
	text = strings.TrimPrefix(text, f.Name+" ")
	return strings.TrimPrefix(strings.TrimPrefix(text, "is "), "are ")
}

// Structs returns the structs of the page in order: each root, and after each struct those
// that its fields use. It returns an error for a field whose comment lacks its meaning or default.
func (s *Source) Structs() (list []*Struct, err error) {
	seen := map[string]bool{}
	var missing []string
	var add func(name, path string)
	add = func(name, path string) {
		st := s.structs[name]
		if path != "" {
			st.Used = append(st.Used, path)
		}
		if !seen[name] {
			seen[name] = true
			list = append(list, st)
		} else if path == "" {
			return
		}
		for _, f := range st.Fields {
			_, ok := f.Default()
			if !f.Embedded && (!ok && !values[name] || f.Meaning() == "") {
				missing = append(missing, name+"."+f.Name)
			}
			if f.Struct == "" {
				continue
			}
			to := f.Name
			if f.Embedded {
				to = path
			} else if path != "" {
				to = path + "." + f.Name
			}
			if strings.HasPrefix(f.Type, "[]") {
				to += "[]"
			}
			add(f.Struct, to)
		}
	}
	for _, root := range roots {
		if s.structs[root] == nil {
			return nil, fmt.Errorf("configdoc: there is no %s", root)
		}
		add(root, "")
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("configdoc: the doc comments lack a meaning or a default: %s", strings.Join(missing, ", "))
	}
	return list, nil
}
