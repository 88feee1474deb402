package main

import (
	"fmt"
	"strconv"
	"strings"
)

// table is one table of the report.
type table struct {
	title  string
	header []string
	rows   [][]string
}

func tables(f *figures) []table {
	count := strconv.Itoa
	types := table{title: "Types", header: []string{"type", "fields", "methods"}}
	for _, t := range f.types {
		types.rows = append(types.rows, []string{"`" + t.name + "`", count(t.fields), count(t.methods)})
	}
	paths := table{title: "Paths", header: []string{"path", "files on it", "calls from file to file", "files reached in all", "files"}}
	for _, p := range f.paths {
		paths.rows = append(paths.rows, []string{p.name, count(len(p.files)), count(p.steps), count(p.reach), code(p.files...)})
	}
	packages := table{title: "Packages", header: []string{"package", "files", "largest cycle", "references between files", "exported names", "their methods and fields", "Config, Options"}}
	lines := table{title: "Lines", header: []string{"package", "lines", "of code", "of tests", "longest file", "lines", "longest function", "lines"}}
	for _, k := range []kind{library, support, examples} {
		total := packageFigures{}
		for _, p := range f.packages {
			if p.kind != k {
				continue
			}
			name := code(p.path)
			packages.rows = append(packages.rows, []string{name, count(p.files), count(len(p.cycle)), count(p.references), count(p.names), count(p.members), options(p)})
			lines.rows = append(lines.rows, []string{name, count(p.lines), count(p.code), count(p.testLines), code(p.file), count(p.fileLines), code(p.function), count(p.functionLines)})
			total.lines += p.lines
			total.code += p.code
			total.testLines += p.testLines
		}
		lines.rows = append(lines.rows, []string{"all of " + string(k), count(total.lines), count(total.code), count(total.testLines), "", "", "", ""})
	}
	return []table{types, paths, packages, lines}
}

func options(p packageFigures) string {
	var all []string
	for _, t := range p.options {
		all = append(all, fmt.Sprintf("%s %d", t.name, t.fields))
	}
	return strings.Join(all, ", ")
}

// code formats names as code, separated by commas.
func code(names ...string) string {
	var all []string
	for _, n := range names {
		if n != "" {
			all = append(all, "`"+n+"`")
		}
	}
	return strings.Join(all, ", ")
}

// markdown formats tables as Markdown.
func markdown(all []table) string {
	var b strings.Builder
	for _, t := range all {
		fmt.Fprintf(&b, "**%s**\n\n| %s |\n|%s\n", t.title, strings.Join(t.header, " | "), strings.Repeat("---|", len(t.header)))
		for _, row := range t.rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
		b.WriteString("\n")
	}
	return b.String()
}
