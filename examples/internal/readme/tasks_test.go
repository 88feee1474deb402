package readme

import (
	"strings"
	"testing"
)

// TestTasks_HaveAnExample checks that a runnable example shows each task of docs/patterns.md.
func TestTasks_HaveAnExample(t *testing.T) {
	_, table, _ := strings.Cut(documents(t)["docs/patterns.md"], "## I want to…")
	table, _, _ = strings.Cut(table, "\n## ")
	tasks := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| |") {
			continue
		}
		if tasks++; !strings.Contains(line, ".Example") {
			t.Errorf("no example: %s", line)
		}
	}
	if tasks < 30 {
		t.Errorf("only %d tasks", tasks)
	}
}
