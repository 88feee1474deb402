// Command structure measures how the code of this module is divided, and checks
// that against limits.
//
//	go run ./internal/structure            print the figures
//	go run ./internal/structure -check     compare them with limits.txt and docs/structure.md
//	go run ./internal/structure -write     write them to docs/structure.md
//	go run ./internal/structure -explain   list the functions on the two paths
//
// It measures the build for Linux, without tests and nested modules. The meaning
// of each figure is in docs/structure.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mooring-mqtt/mooring/internal/source"
)

func main() {
	check := flag.Bool("check", false, "compare with the limits and the document; exit status 1 if they do not hold")
	write := flag.Bool("write", false, "write the figures to the document")
	explain := flag.Bool("explain", false, "list the functions on each path")
	before := flag.Bool("before", false, "use the names of the paths at commit e2bd7dc")
	dir := flag.String("dir", ".", "measure the module in this folder")
	document := flag.String("document", "docs/structure.md", "the document, relative to the module")
	limits := flag.String("limits", "internal/structure/limits.txt", "the limits, relative to the module")
	flag.Parse()
	paths := pathsNow
	if *before {
		paths = pathsBefore
	}
	problems, err := run(*dir, paths, *check, *write, *explain, *document, *limits)
	if err != nil {
		fmt.Fprintln(os.Stderr, "structure:", err)
		os.Exit(2)
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "structure:", p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

func run(dir string, paths []path, check, write, explain bool, document, limits string) (problems []string, err error) {
	m, err := source.Load(dir)
	if err != nil {
		return nil, err
	}
	f, err := measure(m, paths)
	if err != nil {
		return nil, err
	}
	graph := callGraph(m)
	document, limits = filepath.Join(m.Dir, document), filepath.Join(m.Dir, limits)
	switch {
	case explain:
		for _, p := range paths {
			fmt.Printf("%s\n\n%s\n", p.name, graph.explain(p))
		}
	case write:
		return nil, writeReport(document, tables(f))
	case check:
		for _, p := range paths {
			for _, name := range graph.unknown(p) {
				problems = append(problems, fmt.Sprintf("the %s path names %s, which does not exist; correct paths.go", p.name, name))
			}
		}
		l, err := readLimits(limits)
		if err != nil {
			return nil, err
		}
		problems = append(problems, exceeded(values(f), l)...)
		if err := checkReport(document, tables(f)); err != nil {
			problems = append(problems, err.Error())
		}
	default:
		fmt.Print(markdown(tables(f)))
	}
	return problems, nil
}
