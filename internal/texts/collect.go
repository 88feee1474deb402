package main

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// message is an error, a log line or an event.
type message struct {
	pkg   string // path of its package
	name  string // of the variable, the type, or the function that contains it
	texts []string
	doc   string // the first sentence of its documentation
	more  string // for a log line: level and attributes; for an event: fields
}

// messages are those of a module.
type messages struct {
	errors, lines, events []message
}

// collect finds the messages of the public packages and of the packages that they import.
func collect(m *source.Module) (all messages) {
	for _, p := range users(m) {
		c := collector{pkg: p, info: p.Info, all: &all, docs: map[types.Object]string{}}
		for _, f := range p.Syntax {
			for _, d := range f.Decls {
				c.declare(d)
			}
		}
		for _, f := range p.Syntax {
			for _, d := range f.Decls {
				c.declaration(d)
			}
		}
	}
	return all
}

// users returns the public packages and the packages of the module that they import.
func users(m *source.Module) (found []*source.Package) {
	seen := map[string]bool{}
	var add func(p *source.Package)
	add = func(p *source.Package) {
		if p == nil || seen[p.Path] {
			return
		}
		seen[p.Path] = true
		found = append(found, p)
		for _, path := range p.Imports {
			add(m.Package(path))
		}
	}
	for _, p := range m.Packages {
		elements := strings.Split(p.Path, "/")
		if p.Types.Name() != "main" && !slices.Contains(elements, "internal") && elements[0] != "examples" {
			add(p)
		}
	}
	slices.SortFunc(found, func(a, b *source.Package) int { return strings.Compare(a.Path, b.Path) })
	return found
}

type collector struct {
	pkg  *source.Package
	info *types.Info
	all  *messages
	docs map[types.Object]string // of types and variables
}

// declare records the documentation of types and variables.
func (c *collector) declare(d ast.Decl) {
	g, ok := d.(*ast.GenDecl)
	if !ok {
		return
	}
	for _, s := range g.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			c.docs[c.info.Defs[s.Name]] = firstSentence(s.Doc, g.Doc, s.Comment)
		case *ast.ValueSpec:
			group := g.Doc
			if len(g.Specs) > 1 { // it describes all of them
				group = nil
			}
			for _, n := range s.Names {
				c.docs[c.info.Defs[n]] = firstSentence(s.Doc, s.Comment, group)
			}
		}
	}
}

func firstSentence(groups ...*ast.CommentGroup) string {
	for _, g := range groups {
		if text := strings.Join(strings.Fields(g.Text()), " "); text != "" {
			end := strings.Index(text, ". ")
			if end < 0 {
				return text
			}
			return text[:end+1]
		}
	}
	return ""
}

func (c *collector) declaration(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Body == nil {
			return
		}
		if recv := source.Receiver(d); recv != "" && d.Name.Name == "Error" && len(d.Type.Params.List) == 0 {
			c.errorMethod(d, recv)
			return
		} else if recv != "" && d.Name.Name == "event" && d.Recv.List[0].Names == nil { // the mark of an Event
			c.event(d)
			return
		}
		c.calls(d.Body, strings.TrimPrefix(source.Receiver(d)+"."+d.Name.Name, "."), nil)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if v, ok := s.(*ast.ValueSpec); ok {
				if v.Names[0].Name == "lossKinds" {
					c.kinds(v.Values[0])
				}
				for i, x := range v.Values {
					c.calls(x, v.Names[min(i, len(v.Names)-1)].Name, c.info.Defs[v.Names[min(i, len(v.Names)-1)]])
				}
			}
		}
	}
}

// errorMethod records the texts of a method Error.
func (c *collector) errorMethod(d *ast.FuncDecl, recv string) {
	var texts []string
	ast.Inspect(d.Body, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CallExpr:
			if name := called(x); strings.HasPrefix(name, "fmt.Sprint") || name == "strings.Join" {
				if text := c.text(x); hasWords(text) {
					texts = append(texts, text)
				}
				return false
			}
		case *ast.BinaryExpr, *ast.BasicLit:
			if b, ok := x.(*ast.BinaryExpr); ok && b.Op != token.ADD {
				return true
			}
			if text := c.text(x.(ast.Expr)); hasWords(text) {
				texts = append(texts, text)
			}
			return false
		}
		return true
	})
	if len(texts) > 0 {
		object := c.pkg.Types.Scope().Lookup(recv)
		c.all.errors = append(c.all.errors, message{pkg: c.pkg.Path, name: recv, texts: texts, doc: c.docs[object]})
	}
}

func hasWords(s string) bool {
	return strings.Count(s, " ") > 0 && strings.Trim(s, " …:,;()[]%svdqx") != ""
}

// event records a type of event with its fields.
func (c *collector) event(d *ast.FuncDecl) {
	name := source.Receiver(d)
	object := c.pkg.Types.Scope().Lookup(name)
	var fields []string
	if s, ok := object.Type().Underlying().(*types.Struct); ok {
		for f := range s.Fields() {
			fields = append(fields, f.Name())
		}
	}
	c.all.events = append(c.all.events, message{pkg: c.pkg.Path, name: name, doc: c.docs[object], more: strings.Join(fields, ", ")})
}

// calls records the errors that an expression or a function makes, and the lines that it logs.
func (c *collector) calls(n ast.Node, name string, object types.Object) {
	ast.Inspect(n, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		switch of := called(call); of {
		case "errors.New", "safe.New", "fmt.Errorf":
			if text := c.text(call.Args[0]); hasWords(text) {
				c.all.errors = append(c.all.errors, message{pkg: c.pkg.Path, name: name, texts: []string{text}, doc: c.docs[object]})
			}
		default:
			c.line(call, name)
		}
		return true
	})
}

// kinds records the lines of the table lossKinds of package client: name, text, event, counter.
func (c *collector) kinds(table ast.Expr) {
	for _, x := range table.(*ast.CompositeLit).Elts {
		row := x.(*ast.KeyValueExpr).Value.(*ast.CompositeLit).Elts
		level := "Warn"
		if _, ok := row[2].(*ast.Ident); ok || c.text(row[0]) == "message-conflated" { // no event, or intended
			level = "Debug"
		}
		c.all.lines = append(c.all.lines, message{pkg: c.pkg.Path, name: "kind", texts: []string{c.text(row[1])}, doc: level, more: "kind=" + c.text(row[0])})
	}
}

// called returns the name of the function that is called, as it is written: package.Name or
// variable.Name.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name + "." + f.Sel.Name
		}
		return "." + f.Sel.Name
	case *ast.Ident:
		return f.Name
	}
	return ""
}

// line records a call that logs. The text is the last argument that is a string before the
// attributes.
func (c *collector) line(call *ast.CallExpr, name string) {
	f, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return
	}
	level, at := f.Sel.Name, 0
	switch {
	case c.isLogger(f.X) && slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, level):
	case f.Sel.Name == "log" && len(call.Args) >= 2:
		level, at = "Info or Warn", 1
		if s, ok := call.Args[0].(*ast.SelectorExpr); ok {
			level = strings.TrimPrefix(s.Sel.Name, "Level")
		}
	default:
		return
	}
	var attributes []string
	for i, x := range call.Args[at+1:] {
		switch x := x.(type) {
		case *ast.CallExpr: // slog.String("name", …)
			if len(x.Args) > 0 {
				attributes = append(attributes, c.text(x.Args[0]))
			}
		case *ast.BasicLit:
			if i%2 == 0 {
				attributes = append(attributes, c.text(x))
			}
		}
	}
	text := c.text(call.Args[at])
	if !hasWords(text) && strings.Trim(text, "…") == "" { // a line of lossKinds
		return
	}
	c.all.lines = append(c.all.lines, message{pkg: c.pkg.Path, name: name, texts: []string{text}, doc: level, more: strings.Join(attributes, ", ")})
}

func (c *collector) isLogger(x ast.Expr) bool {
	t := c.info.TypeOf(x)
	return t != nil && t.String() == "*log/slog.Logger"
}

// text returns a string expression, with "…" for its variable parts.
func (c *collector) text(x ast.Expr) string {
	if v := c.info.Types[x].Value; v != nil && v.Kind() == constant.String {
		return constant.StringVal(v)
	}
	switch x := x.(type) {
	case *ast.BinaryExpr:
		return c.text(x.X) + c.text(x.Y)
	case *ast.ParenExpr:
		return c.text(x.X)
	case *ast.CallExpr:
		if strings.HasPrefix(called(x), "fmt.Sprintf") {
			return c.text(x.Args[0])
		}
	}
	return "…"
}
