package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/source"
)

// sample has each form of error, log line and event.
var sample = map[string]string{
	"go.mod": "module example.com/m\n\ngo 1.25\n",
	"a/a.go": `// Package a is public.
package a

import (
	"errors"
	"fmt"
	"log/slog"

	"example.com/m/internal/b"
)

// ErrGone is returned when it is gone. It has more to say.
var ErrGone = errors.New("a: gone; look " + "elsewhere")

// BadError reports something bad.
type BadError struct{ N int }

func (e *BadError) Error() string {
	if e.N == 0 {
		return "a: nothing is bad"
	}
	return fmt.Sprintf("a: %d are bad", e.N) + b.Suffix()
}

// Happened reports that it happened. Or so.
type Happened struct{ When, Where string }

func (Happened) event() {}

func Do(l *slog.Logger, n int) error {
	l.Warn("it happened", "when", n)
	if n > 1 {
		return fmt.Errorf("a: do %d: %w", n, ErrGone)
	}
	return &BadError{n}
}
`,
	"internal/b/b.go": "package b\n\nimport \"errors\"\n\nvar errB = errors.New(\"b has failed\")\n\nfunc Suffix() string { return errB.Error() }\n",
	"internal/c/c.go": "package c\n\nimport \"errors\"\n\nvar ErrC = errors.New(\"not used by a public package\")\n",
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	for name, text := range sample {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m, err := source.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, want := collect(m), messages{
		errors: []message{
			{pkg: "a", name: "ErrGone", texts: []string{"a: gone; look elsewhere"}, doc: "ErrGone is returned when it is gone."},
			{pkg: "a", name: "BadError", texts: []string{"a: nothing is bad", "a: %d are bad…"}, doc: "BadError reports something bad."},
			{pkg: "a", name: "Do", texts: []string{"a: do %d: %w"}},
			{pkg: "internal/b", name: "errB", texts: []string{"b has failed"}},
		},
		lines:  []message{{pkg: "a", name: "Do", texts: []string{"it happened"}, doc: "Warn", more: "when"}},
		events: []message{{pkg: "a", name: "Happened", doc: "Happened reports that it happened.", more: "When, Where"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestPage compares the page with the code, and the operating guide with the log lines of package client.
func TestPage(t *testing.T) {
	m, err := source.Load(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	all := collect(m)
	if len(all.errors) < 200 || len(all.events) < 40 || len(all.lines) < 50 {
		t.Errorf("%d errors, %d events, %d log lines", len(all.errors), len(all.events), len(all.lines))
	}
	if err := update(filepath.Join(m.Dir, page), render(all), false); err != nil {
		t.Error(err)
	}
	guide, err := os.ReadFile(filepath.Join(m.Dir, "docs", "guides", "operating.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all.lines {
		text, _, _ := strings.Cut(l.texts[0], ":") // the guide shortens two lines after the colon
		if l.pkg == "client" && !strings.Contains(string(guide), "| "+text) {
			t.Errorf("docs/guides/operating.md does not describe the log line %q", l.texts[0])
		}
	}
	for _, e := range all.errors {
		if e.pkg == "client" && strings.HasPrefix(e.name, "Err") && e.doc == "" {
			t.Errorf("%s has no documentation", e.name)
		}
	}
}
