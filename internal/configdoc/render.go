package configdoc

import (
	"fmt"
	"strings"
)

const head = `# Configuration

This page lists every setting. It is generated from the doc comments by ` + "`go test ./internal/configdoc -update-docs`" + `. Tests compare it with the comments, and the defaults with the values that the code uses. The zero value of each field selects its default. Each row shows the first sentence of the comment; ` + "`go doc`" + ` shows the conditions and errors. [doctor.md](../doctor.md) describes valid settings that lose messages or mislead.
`

// Render returns the page.
func (s *Source) Render() (string, error) {
	list, err := s.Structs()
	if err != nil {
		return "", err
	}
	b := &strings.Builder{}
	b.WriteString(head)
	for _, st := range list {
		fmt.Fprintf(b, "\n## %s\n\n", st.Name)
		if len(st.Used) > 0 {
			fmt.Fprintf(b, "Used by `Config.%s`. ", strings.Join(st.Used, "`, `Config."))
		}
		fmt.Fprintf(b, "%s.\n\n| field | type | default | meaning |\n|---|---|---|---|\n", cell(sentence.FindStringSubmatch(st.Doc)[1]))
		for _, f := range st.Fields {
			b.WriteString(f.row())
		}
	}
	return b.String(), nil
}

func (f Field) row() string {
	text, _ := f.Default()
	text, meaning := cell(text), cell(f.Meaning())
	if f.Embedded {
		meaning = "embedded: its fields are fields of this struct too"
	}
	if f.Struct != "" {
		see := fmt.Sprintf("see [%s](#%s)", f.Struct, strings.ToLower(strings.ReplaceAll(f.Struct, ".", "")))
		if text == "" {
			text = see
		} else {
			meaning += "; " + see
		}
	}
	return fmt.Sprintf("| `%s` | `%s` | %s | %s |\n", f.Name, f.Type, text, meaning)
}

// cell writes a text in a cell of a table. Links of doc comments become code.
func cell(s string) string {
	s = link.ReplaceAllString(s, "$1")
	return strings.NewReplacer("|", `\|`, "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "<", `\<`).Replace(s)
}
