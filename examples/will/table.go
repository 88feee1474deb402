package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// notes are texts that are numbered in the order of their first use.
type notes []string

func (n *notes) number(text string) int {
	i := slices.Index(*n, text)
	if i < 0 {
		i = len(*n)
		*n = append(*n, text)
	}
	return i + 1
}

// table writes one row for each case. It returns false if a verdict is a failure. names are the names
// of the brokers. The column of a broker that is nil contains the text absent.
func table(w io.Writer, list []*scenario, names []string, brokers []*broker, verdicts [][]verdict, absent string) bool {
	var known, wrong, fixed notes
	rows := [][]string{append([]string{"case", "expected by MQTT 5", "statement"}, names...)}
	counts := make([][3]int, len(brokers))
	good := true
	for i, c := range list {
		row := []string{c.name, c.expectation(), c.rule}
		for j, b := range brokers {
			if b == nil {
				row = append(row, absent)
				continue
			}
			v := verdicts[j][i]
			good = good && !v.failed(b)
			row = append(row, cell(c, v, &known, &wrong))
			switch {
			case len(v.wrong) > 0:
				counts[j][2]++
			case len(v.known) > 0:
				counts[j][1]++
			default:
				counts[j][0]++
			}
			for _, name := range v.fixed {
				fixed.number(fmt.Sprintf("%s: %s", c.name, name))
			}
		}
		rows = append(rows, row)
	}
	align(w, rows)
	fmt.Fprintln(w, "\n✓ right   ◐ known departure   ✗ wrong")
	for i, text := range known {
		fmt.Fprintf(w, "◐ %d  %s: %s\n", i+1, mosquittoTested, text)
	}
	for i, text := range wrong {
		fmt.Fprintf(w, "✗ %d  %s\n", i+1, text)
	}
	for _, text := range fixed {
		fmt.Fprintf(w, "a known departure of %s did not happen, which is not a failure: %s\n", mosquittoTested, text)
	}
	for j, b := range brokers {
		if b != nil {
			fmt.Fprintf(w, "%s: %d right, %d known departures, %d wrong\n", b.name, counts[j][0], counts[j][1], counts[j][2])
		}
	}
	return good
}

func cell(c *scenario, v verdict, known, wrong *notes) string {
	mark := "✓"
	var numbers []string
	switch {
	case len(v.wrong) > 0:
		mark = "✗"
		for _, problem := range v.wrong {
			numbers = append(numbers, fmt.Sprint(wrong.number(c.name+": "+problem)))
		}
		if v.err != nil {
			return mark + " " + strings.Join(numbers, " ")
		}
	case len(v.known) > 0:
		mark = "◐"
		for _, name := range v.known {
			numbers = append(numbers, fmt.Sprint(known.number(name)))
		}
	}
	if len(numbers) > 0 {
		mark += " " + strings.Join(numbers, " ")
	}
	return mark + " " + c.seen(v.outcome)
}

// widest is the maximum width of a column in runes.
const widest = 36

// align writes rows in columns.
func align(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	wrapped := make([][][]string, len(rows))
	for i, row := range rows {
		for j, text := range row {
			lines := wrap(text, widest)
			wrapped[i] = append(wrapped[i], lines)
			for _, line := range lines {
				widths[j] = max(widths[j], utf8.RuneCountInString(line))
			}
		}
	}
	for i, row := range wrapped {
		height := 0
		for _, lines := range row {
			height = max(height, len(lines))
		}
		for n := range height {
			var line strings.Builder
			for j, lines := range row {
				text := ""
				if n < len(lines) {
					text = lines[n]
				}
				line.WriteString(text + strings.Repeat(" ", widths[j]-utf8.RuneCountInString(text)+2))
			}
			fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
		}
		if i == 0 {
			total := 0
			for _, width := range widths {
				total += width + 2
			}
			fmt.Fprintln(w, strings.Repeat("─", total-2))
		}
	}
}

// wrap splits a text at spaces into lines of at most width runes. A longer word gets its own line.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = "  " + word
		}
	}
	return append(lines, line)
}
