package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// table is one table of the report.
type table struct {
	title  string
	header []string
	rows   [][]string
	// drifts marks a table of line counts. It may differ from the document by
	// driftShare, so that an ordinary change does not have to rewrite the document.
	drifts bool
}

const (
	driftShare = 0.05
	driftLines = 20 // below this difference a count has not drifted
)

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
	lines := table{title: "Lines", drifts: true, header: []string{"package", "lines", "of code", "of tests", "longest file", "lines", "longest function", "lines"}}
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

// The document holds the report between these two lines.
const (
	begin = "<!-- begin: written by go run ./internal/structure -write -->"
	end   = "<!-- end -->"
)

// split returns the document in three parts: the report and what surrounds it.
func split(document string) (before, report, after string, err error) {
	before, rest, ok := strings.Cut(document, begin+"\n")
	report, after, okEnd := strings.Cut(rest, end)
	if !ok || !okEnd {
		return "", "", "", errors.New("the document has no lines that begin and end the report")
	}
	return before, report, after, nil
}

func writeReport(path string, all []table) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, _, after, err := split(string(document))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(before+begin+"\n\n"+markdown(all)+end+after), 0o644)
}

// checkReport compares the document with the tables.
func checkReport(path string, all []table) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, report, _, err := split(string(document))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var rows []string // of the document, without titles
	for line := range bytes.Lines([]byte(report)) {
		if line[0] == '|' {
			rows = append(rows, strings.TrimSpace(string(line)))
		}
	}
	var want [][]string
	var drifts []bool
	for _, t := range all {
		for _, row := range t.rows {
			want, drifts = append(want, row), append(drifts, t.drifts)
		}
		rows = slices.DeleteFunc(rows, func(r string) bool {
			return r == "| "+strings.Join(t.header, " | ")+" |" || strings.HasPrefix(r, "|---")
		})
	}
	stale := func(row string) error {
		return fmt.Errorf("%s is out of date at %q: run go run ./internal/structure -write", path, row)
	}
	for i, row := range want {
		formatted := "| " + strings.Join(row, " | ") + " |"
		if i >= len(rows) || rows[i] != formatted && !(drifts[i] && near(cells(rows[i]), row)) {
			return stale(formatted)
		}
	}
	if len(rows) > len(want) {
		return stale(rows[len(want)])
	}
	return nil
}

func cells(row string) []string {
	return strings.Split(strings.TrimSuffix(strings.TrimPrefix(row, "| "), " |"), " | ")
}

// near reports whether two rows have the same first cell and similar numbers.
func near(a, b []string) bool {
	if len(a) != len(b) || a[0] != b[0] {
		return false
	}
	for i := range a {
		m, errA := strconv.Atoi(a[i])
		n, errB := strconv.Atoi(b[i])
		if errA != nil || errB != nil {
			continue // the name of the longest file or function
		}
		if d := max(m-n, n-m); d > driftLines && float64(d) > driftShare*float64(max(m, n)) {
			return false
		}
	}
	return true
}
