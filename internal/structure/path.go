package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// A path is the way of a message through the packages that handle it, from its entries to its ends.
// The data is in paths.go.
//
// A file is on the path if it declares a function on a chain of calls that leads from an entry to
// an end. The ends themselves are not on the path. A function that is called on the way but leads
// to no end (a check, a counter, a conversion) is not on the path either, because a reader does not
// need to open it to follow a message. A second value, the reach, counts the files of these
// functions as well.
//
// A call is any mention of a function or method that is known statically. A function literal
// belongs to the function that contains it. A mention without a call counts too, so a method value
// cannot hide a step. Only functions of the path's packages are followed.
//
// Calls through interfaces and function fields are not followed. If a message crosses one (for
// example, the session reports an acknowledgement), the function on the other side is an entry.
type path struct {
	name string
	// packages are the packages whose functions belong to the path.
	packages []string
	// entries are functions of these packages, such as "client.(*Client).Publish".
	entries []string
	// ends are functions or methods, including those of interfaces, that pass the message out of
	// the packages or complete it.
	ends []string
}

// route is the result for one path.
type route struct {
	files []string // on the path, with their packages
	steps int      // calls on the path from one file to another
	reach int      // files of all functions that the entries call, directly or indirectly
}

// calls is the static call graph of a module.
type calls struct {
	fset  *token.FileSet
	at    map[string]string          // function → "package/file.go"
	of    map[string]string          // function → package
	graph map[string]map[string]bool // function → functions and methods that it mentions
}

func callGraph(m *source.Module) *calls {
	c := &calls{fset: m.Fset, at: map[string]string{}, of: map[string]string{}, graph: map[string]map[string]bool{}}
	for _, p := range m.Packages {
		for _, f := range p.Syntax {
			for _, d := range f.Decls {
				d, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				object, ok := p.Info.Defs[d.Name].(*types.Func)
				if !ok {
					continue
				}
				name := c.name(m, object)
				c.at[name] = p.Path + "/" + file(m.Fset, d.Pos())
				c.of[name] = p.Path
				mentions := map[string]bool{}
				ast.Inspect(d, func(n ast.Node) bool {
					if ident, ok := n.(*ast.Ident); ok {
						if used, ok := p.Info.Uses[ident].(*types.Func); ok && used.Pkg() != nil {
							mentions[c.name(m, used)] = true
						}
					}
					return true
				})
				c.graph[name] = mentions
			}
		}
	}
	return c
}

// name returns a name such as "client.(*Client).Publish", "client.(Handler).Handle"
// or "internal/wire.AppendPublish".
func (c *calls) name(m *source.Module, f *types.Func) string {
	f = f.Origin()
	pkg, _ := m.Relative(f.Pkg().Path())
	signature := f.Type().(*types.Signature)
	if signature.Recv() == nil {
		return pkg + "." + f.Name()
	}
	receiver, star := signature.Recv().Type(), ""
	if p, ok := receiver.(*types.Pointer); ok {
		receiver, star = p.Elem(), "*"
	}
	typeName := "?" // for a method of an anonymous interface
	if named, ok := receiver.(*types.Named); ok {
		typeName = named.Obj().Name()
	}
	return fmt.Sprintf("%s.(%s%s).%s", pkg, star, typeName, f.Name())
}

// known reports whether a function or method with that name is declared or called.
func (c *calls) known(name string) bool {
	if c.at[name] != "" {
		return true
	}
	for _, mentions := range c.graph {
		if mentions[name] {
			return true
		}
	}
	return false
}

// unknown returns the names in the data of p that the module does not have.
func (c *calls) unknown(p path) (names []string) {
	for _, name := range slices.Concat(p.entries, p.ends) {
		if !c.known(name) {
			names = append(names, name)
		}
	}
	return names
}

func (c *calls) route(p path) route {
	reached := c.reached(p)
	leading := c.leading(p, reached)
	var r route
	files, all := map[string]bool{}, map[string]bool{}
	for name := range reached {
		all[c.at[name]] = true
	}
	for name := range leading {
		files[c.at[name]] = true
		for next := range c.graph[name] {
			if leading[next] && c.at[next] != c.at[name] {
				r.steps++
			}
		}
	}
	r.files, r.reach = sorted(files), len(all)
	return r
}

// reached returns the functions of the path's packages that the entries call, directly or
// indirectly, without those after an end.
func (c *calls) reached(p path) map[string]bool {
	reached := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if reached[name] || !slices.Contains(p.packages, c.of[name]) || slices.Contains(p.ends, name) {
			return
		}
		reached[name] = true
		for next := range c.graph[name] {
			visit(next)
		}
	}
	for _, name := range p.entries {
		visit(name)
	}
	return reached
}

// leading returns the reached functions that call an end, directly or indirectly.
func (c *calls) leading(p path, reached map[string]bool) map[string]bool {
	leading := map[string]bool{}
	for changed := true; changed; {
		changed = false
		for name := range reached {
			if leading[name] {
				continue
			}
			for next := range c.graph[name] {
				if leading[next] || slices.Contains(p.ends, next) {
					leading[name], changed = true, true
					break
				}
			}
		}
	}
	return leading
}

// explain lists the functions on a path, for maintainers of the data.
func (c *calls) explain(p path) string {
	leading := c.leading(p, c.reached(p))
	var b strings.Builder
	for _, name := range sorted(leading) {
		var next []string
		for _, n := range sorted(c.graph[name]) {
			if leading[n] && c.at[n] != c.at[name] || slices.Contains(p.ends, n) {
				next = append(next, n)
			}
		}
		fmt.Fprintf(&b, "%-34s %-50s → %s\n", c.at[name], name, strings.Join(next, ", "))
	}
	return b.String()
}
