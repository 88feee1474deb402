package refusals

import (
	"flag"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var updateDocs = flag.Bool("update-docs", false, "the tests write their sections of docs/refusals.md")

const docs = "../../docs/refusals.md"

var writing sync.Mutex

// section checks that the section of docs/refusals.md with this heading has this text. With
// -update-docs it writes the section, at the end of the file if it does not exist.
func section(t *testing.T, heading, text string) {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	file, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(file), "\n## "+heading+"\n")
	have, after, more := strings.Cut(rest, "\n## ")
	if more {
		after = "\n## " + after
	}
	text = "\n" + strings.TrimSpace(text) + "\n"
	switch {
	case found && have == text:
	case !*updateDocs:
		t.Errorf("section %q of %s is not what happens; run go test ./internal/refusals -update-docs", heading, docs)
	default:
		if err := os.WriteFile(docs, []byte(strings.TrimRight(before, "\n")+"\n\n## "+heading+"\n"+text+after), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
