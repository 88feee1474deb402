// Package readme checks the documents: that the programs in README.md compile, that
// links lead somewhere, and that what docs/patterns.md names is there.
package readme

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// around is what the README leaves out.
const around = `package main

import (
	"context"
	"errors"
	"log"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
)

var (
	_ = log.Print
	_ = errors.Join
	_ = dedupe.NewMemory
)

func store(topic string, payload []byte) error { return nil }

func main() {}

`

func TestProgramsInTheReadmeCompile(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 2 {
		t.Fatalf("found %d programs, the device and the backend are due", len(blocks))
	}
	for _, b := range blocks {
		file := filepath.Join(t.TempDir(), "main.go")
		program := append([]byte(around), b[1]...)
		if err := os.WriteFile(file, program, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("go", "vet", file)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, out, b[1])
		}
	}
}
