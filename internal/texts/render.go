package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const head = `# Errors, log lines and events

This page lists every error text, every log line and every event of the public packages. It is generated from the code by ` + "`go run ./internal/texts -write`" + `, and a test compares them. A letter after a percent sign, or "…", stands for a value. [operating.md](../guides/operating.md#log-lines) describes what to do after each log line.

To decide by the kind of an error, use ` + "`errors.Is`" + ` with the variables and ` + "`errors.As`" + ` with the types below, not the text: texts may change. Errors of internal packages reach the application inside an error of a public package.
`

// render writes the page.
func render(all messages) string {
	b := &strings.Builder{}
	b.WriteString(head)
	b.WriteString("\n## Events\n\nAn application receives them in `Config.OnEvent`.\n\n| event | meaning | fields |\n|---|---|---|\n")
	for _, m := range sorted(all.events) {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", m.name, cell(m.doc), codes(m.more))
	}
	b.WriteString("\n## Log lines\n\n[operating.md](../guides/operating.md#log-lines) describes what to do after each line of `client`.\n\n| line | level | attributes | package |\n|---|---|---|---|\n")
	for _, m := range sorted(all.lines) {
		fmt.Fprintf(b, "| %s | %s | %s | `%s` |\n", cell(strings.Join(m.texts, "")), m.doc, codes(m.more), m.pkg)
	}
	b.WriteString("\n## Errors\n")
	for i, m := range sorted(all.errors) {
		if i == 0 || sorted(all.errors)[i-1].pkg != m.pkg {
			fmt.Fprintf(b, "\n### %s\n\n| text | name, or the function that returns it | meaning |\n|---|---|---|\n", m.pkg)
		}
		fmt.Fprintf(b, "| %s | `%s` | %s |\n", cell(strings.Join(m.texts, "<br>")), m.name, cell(m.doc))
	}
	return b.String()
}

func sorted(list []message) []message {
	return slices.SortedStableFunc(slices.Values(list), func(a, b message) int {
		return cmp.Or(strings.Compare(a.pkg, b.pkg), strings.Compare(a.name, b.name))
	})
}

// cell writes a text in a cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<br>", "<br>", "<", `\<`).Replace(s)
}

// codes writes a list of names as code.
func codes(list string) string {
	if list == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(list, ", ", "`, `") + "`"
}
