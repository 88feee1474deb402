// Command structure measures how the code of this module is divided, and compares the result with
// limits.
//
//	go run ./internal/structure            print the values, before and now
//	go run ./internal/structure -check     compare them with limits.txt
//	go run ./internal/structure -explain   list the functions on the two paths
//
// It measures the Linux build, without tests and nested modules. The file docs/structure.md
// explains each value.
package main

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// figuresBefore were measured at commit e2bd7dc, before the components.
//
//go:embed before.md
var figuresBefore string

func main() {
	check := flag.Bool("check", false, "compare with the limits; exit status 1 if one is exceeded")
	explain := flag.Bool("explain", false, "list the functions on each path")
	before := flag.Bool("before", false, "measure with the paths of commit e2bd7dc")
	dir := flag.String("dir", ".", "measure the module in this folder")
	flag.Parse()
	problems, err := run(*dir, *check, *explain, *before)
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

func run(dir string, check, explain, before bool) (problems []string, err error) {
	paths := pathsNow
	if before {
		paths = pathsBefore
	}
	m, err := source.Load(dir)
	if err != nil {
		return nil, err
	}
	f, err := measure(m, paths)
	if err != nil {
		return nil, err
	}
	graph := callGraph(m)
	switch {
	case explain:
		for _, p := range paths {
			fmt.Printf("%s\n\n%s\n", p.name, graph.explain(p))
		}
	case check:
		for _, p := range paths {
			for _, name := range graph.unknown(p) {
				problems = append(problems, fmt.Sprintf("the %s path names %s, which does not exist; correct paths.go", p.name, name))
			}
		}
		limits, err := readLimits(filepath.Join(m.Dir, "internal/structure/limits.txt"))
		if err != nil {
			return nil, err
		}
		fmt.Print(compared(values(f), limits))
		problems = append(problems, exceeded(values(f), limits)...)
	case before:
		fmt.Print(markdown(tables(f)))
	default:
		fmt.Printf("# Before, at commit e2bd7dc\n\n%s\n# Now\n\n%s", figuresBefore, markdown(tables(f)))
	}
	return problems, nil
}
