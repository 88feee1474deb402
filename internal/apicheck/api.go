// Command apicheck records the exported API of the public packages in docs/api, one file per
// package, so that a review shows each change of the API.
//
//	go run ./internal/apicheck          compare the files with the code
//	go run ./internal/apicheck -write   write the files
//
// Each line is one constant, variable, function, type, field or method, without comments. An alias
// of a type of an internal package is followed by the methods and fields of that type, because
// callers see them.
package main

import (
	"fmt"
	"go/types"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// publicPackages returns the packages that other modules can import, except programs.
func publicPackages(m *source.Module) (public []*source.Package) {
	for _, p := range m.Packages {
		if p.Types.Name() != "main" && !slices.Contains(strings.Split(p.Path, "/"), "internal") && !strings.HasPrefix(p.Path, "examples/") {
			public = append(public, p)
		}
	}
	return public
}

// api returns the lines that describe the exported API of a package, in order.
func api(p *types.Package) []string {
	a := &printer{pkg: p}
	for _, name := range p.Scope().Names() {
		if object := p.Scope().Lookup(name); object.Exported() {
			a.object(object)
		}
	}
	slices.Sort(a.lines)
	return slices.Compact(a.lines)
}

type printer struct {
	pkg   *types.Package
	lines []string
}

func (a *printer) add(format string, args ...any) {
	a.lines = append(a.lines, fmt.Sprintf(format, args...))
}

// qualifier writes names of other packages with the last element of their paths.
func (a *printer) qualifier(p *types.Package) string {
	if p == a.pkg {
		return ""
	}
	return p.Name()
}

func (a *printer) text(t types.Type) string { return types.TypeString(t, a.qualifier) }

func (a *printer) object(object types.Object) {
	switch object := object.(type) {
	case *types.Const:
		a.add("const %s %s = %s", object.Name(), a.text(object.Type()), object.Val().ExactString())
	case *types.Var:
		a.add("var %s %s", object.Name(), a.text(object.Type()))
	case *types.Func:
		a.add("func %s%s", object.Name(), a.signature(object))
	case *types.TypeName:
		a.typeName(object)
	}
}

// signature returns the signature of a function without "func".
func (a *printer) signature(f *types.Func) string {
	return strings.TrimPrefix(a.text(f.Type()), "func")
}

func (a *printer) typeName(object *types.TypeName) {
	name, t := object.Name(), object.Type()
	if alias, ok := t.(*types.Alias); ok {
		a.add("type %s = %s", name, a.text(alias.Rhs()))
		if named, ok := types.Unalias(t).(*types.Named); ok && named.Obj().Pkg() != nil && internal(named.Obj().Pkg().Path()) {
			a.members(name, named)
		}
		return
	}
	named := t.(*types.Named)
	if of := named.TypeParams(); of.Len() > 0 {
		var list []string
		for p := range of.TypeParams() {
			list = append(list, p.Obj().Name()+" "+a.text(p.Constraint()))
		}
		name += "[" + strings.Join(list, ", ") + "]"
	}
	switch u := named.Underlying().(type) {
	case *types.Struct:
		a.add("type %s struct", name)
	case *types.Interface:
		a.add("type %s interface", name)
	default:
		a.add("type %s %s", name, a.text(u))
	}
	a.members(object.Name(), named)
}

func internal(path string) bool {
	return slices.Contains(strings.Split(path, "/"), "internal")
}

// members adds the fields and methods of a type.
func (a *printer) members(name string, named *types.Named) {
	switch u := named.Underlying().(type) {
	case *types.Struct:
		hidden := false
		for field := range u.Fields() {
			switch {
			case !field.Exported():
				hidden = true
			case field.Embedded():
				a.add("type %s struct, embeds %s", name, a.text(field.Type()))
			default:
				a.add("type %s struct, %s %s", name, field.Name(), a.text(field.Type()))
			}
		}
		if hidden {
			a.add("type %s struct, unexported fields", name)
		}
	case *types.Interface:
		hidden := false
		for method := range u.Methods() { // including embedded interfaces
			if method.Exported() {
				a.add("type %s interface, %s%s", name, method.Name(), a.signature(method))
			} else {
				hidden = true
			}
		}
		if hidden {
			a.add("type %s interface, unexported methods", name)
		}
		if u.IsComparable() || !u.IsMethodSet() {
			a.add("type %s interface, %s", name, a.text(u))
		}
		return
	}
	values := map[string]bool{} // methods of the type itself, not only of its pointer
	for selection := range types.NewMethodSet(named).Methods() {
		values[selection.Obj().Name()] = true
	}
	for selection := range types.NewMethodSet(types.NewPointer(named)).Methods() {
		method := selection.Obj().(*types.Func)
		if !method.Exported() {
			continue
		}
		receiver := name
		if !values[method.Name()] {
			receiver = "*" + name
		}
		a.add("method (%s) %s%s", receiver, method.Name(), a.signature(method))
	}
}
