package readme

import (
	"regexp"
	"strings"
	"testing"
)

var named = regexp.MustCompile("`([a-z/]+)\\.([A-Z][A-Za-z0-9_.]*)`")

// row is a row of a table, and the heading above it.
type row struct {
	section string
	cells   []string
	shown   bool // it names a test, an example or a benchmark
}

// tables returns the rows of the tables in a document, and reports names that do not exist.
func tables(t *testing.T, text string, packages map[string]map[string]bool) (rows []row) {
	t.Helper()
	section, header := "", true
	for line := range strings.Lines(text) {
		if h := heading.FindStringSubmatch(line); h != nil {
			section = h[1]
		}
		shown := false
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			folder := m[1]
			if f, ok := folders[folder]; ok {
				folder = f
			}
			if packages[folder] == nil {
				packages[folder] = names(t, folder)
			}
			if !packages[folder][m[2]] {
				t.Errorf("there is no %s.%s", m[1], m[2])
			}
			shown = shown || strings.HasPrefix(m[2], "Test") || strings.HasPrefix(m[2], "Example") || strings.HasPrefix(m[2], "Benchmark")
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			header = true
		case strings.HasPrefix(line, "|---"):
			header = false
		case !header:
			var cells []string
			for _, cell := range strings.Split(strings.TrimSuffix(strings.TrimSpace(line), "|")[1:], "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			rows = append(rows, row{section, cells, shown})
		}
	}
	return rows
}

// TestPatterns: everything that docs/patterns.md, docs/guarantees.md and
// docs/performance.md name is there, each row of the first two is shown by something,
// and docs/patterns.md has each case of docs/will.md.
func TestPatterns(t *testing.T) {
	docs, packages := documents(t), map[string]map[string]bool{}
	patterns := tables(t, docs["docs/patterns.md"], packages)
	guarantees := tables(t, docs["docs/guarantees.md"], packages)
	measured := tables(t, docs["docs/performance.md"], packages)
	if len(patterns) < 80 || len(guarantees) < 20 || len(measured) < 10 {
		t.Errorf("%d, %d and %d rows", len(patterns), len(guarantees), len(measured))
	}
	cases := map[string]bool{}
	for _, r := range append(patterns, guarantees...) {
		last := r.cells[len(r.cells)-1]
		switch {
		case r.section == "The Will Message":
			cases[last] = true
			if !strings.Contains(docs["docs/will.md"], "\n| "+last+" |") {
				t.Errorf("docs/will.md has no case %q", last)
			}
		case r.section == "After a crash": // a summary of docs/architecture.md
		case !r.shown && !strings.Contains(last, ".md)"):
			t.Errorf("nothing shows: %s", strings.Join(r.cells, " | "))
		}
	}
	for line := range strings.Lines(docs["docs/will.md"]) {
		if cells := strings.Split(line, "|"); len(cells) == 7 && strings.Contains(cells[3], "MQTT-") && !cases[strings.TrimSpace(cells[1])] {
			t.Errorf("docs/patterns.md does not have the case%s", cells[1])
		}
	}
}

// TestReadme_Promises: docs/guarantees.md has each promise of the README, with its tests.
func TestReadme_Promises(t *testing.T) {
	docs, packages := documents(t), map[string]map[string]bool{}
	has, found := map[string]bool{}, 0
	for _, r := range tables(t, docs["docs/guarantees.md"], packages) {
		has[r.cells[0]] = r.section == "Guarantees"
	}
	for _, r := range tables(t, docs["README.md"], packages) {
		if r.section != "What it promises" {
			continue
		}
		if found++; !has[r.cells[0]] {
			t.Errorf("docs/guarantees.md does not have the promise %q", r.cells[0])
		}
	}
	if found < 7 {
		t.Errorf("only %d promises", found)
	}
}

// TestReadme_Commands: the README names the commands that need nothing but Go, and has
// about one screen.
func TestReadme_Commands(t *testing.T) {
	text := documents(t)["README.md"]
	for _, command := range []string{"go run ./examples/quickstart ", "go test ./... "} {
		if !strings.Contains(text, "\n"+command) {
			t.Errorf("the README does not name %q", command)
		}
	}
	if lines, words := strings.Count(text, "\n"), len(strings.Fields(text)); lines > 130 || words > 1000 {
		t.Errorf("the README has %d lines and %d words: move details to docs", lines, words)
	}
}
