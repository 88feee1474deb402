package main

import (
	"go/token"
	"path/filepath"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// graph is a directed graph of names: of files, or of functions.
type graph map[string]map[string]bool

func (g graph) add(from, to string) {
	if g[from] == nil {
		g[from] = map[string]bool{}
	}
	g[from][to] = true
}

// edges returns the number of edges.
func (g graph) edges() (n int) {
	for _, to := range g {
		n += len(to)
	}
	return n
}

// fileReferences returns which file of a package refers to which. File A refers to file B if A
// names an object that B declares: a type, function, variable, constant, method or struct field. A
// promoted field or method counts as a reference to the file that declares it. Test files and files
// for other systems are not part of the graph.
func fileReferences(fset *token.FileSet, p *source.Package) graph {
	g := graph{}
	for _, f := range p.Syntax {
		g[file(fset, f.Pos())] = map[string]bool{}
	}
	for ident, object := range p.Info.Uses {
		if object.Pkg() != p.Types || !object.Pos().IsValid() {
			continue
		}
		from, to := file(fset, ident.Pos()), file(fset, object.Pos())
		if from != to {
			g.add(from, to)
		}
	}
	return g
}

func file(fset *token.FileSet, pos token.Pos) string {
	return filepath.Base(fset.Position(pos).Filename)
}

// largestCycle returns the nodes of the largest strongly connected component, sorted by name. It
// returns nil for a graph without a cycle.
func largestCycle(g graph) (largest []string) {
	for _, component := range components(g) {
		if len(component) > 1 && len(component) > len(largest) {
			largest = component
		}
	}
	slices.Sort(largest)
	return largest
}

// components returns the strongly connected components (Tarjan's algorithm).
func components(g graph) (all [][]string) {
	index, low := map[string]int{}, map[string]int{}
	onStack := map[string]bool{}
	var stack []string
	var visit func(node string)
	visit = func(node string) {
		index[node] = len(index) + 1
		low[node] = index[node]
		stack = append(stack, node)
		onStack[node] = true
		for _, next := range sorted(g[node]) {
			if index[next] == 0 {
				visit(next)
				low[node] = min(low[node], low[next])
			} else if onStack[next] {
				low[node] = min(low[node], index[next])
			}
		}
		if low[node] != index[node] {
			return
		}
		at := slices.Index(stack, node)
		component := slices.Clone(stack[at:])
		stack = stack[:at]
		for _, n := range component {
			onStack[n] = false
		}
		all = append(all, component)
	}
	for _, node := range sorted(g) {
		if index[node] == 0 {
			visit(node)
		}
	}
	return all
}

// sorted returns the sorted keys of a map.
func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
