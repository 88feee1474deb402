package configdoc

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update-docs", false, "write "+Page)

const root = "../.."

// TestPage compares the page with the doc comments.
func TestPage(t *testing.T) {
	s, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Render()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, Page)
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(old) != text {
		t.Errorf("%s differs from the doc comments; run go test ./internal/configdoc -update-docs", Page)
	}
	if n := strings.Count(text, "\n| `"); n < 120 {
		t.Errorf("only %d fields", n)
	}
}

func TestField(t *testing.T) {
	for _, tt := range []struct{ typ, text, def, meaning string }{
		{"int", "X limits y. At the limit, z. Default: 1,024.", "1,024", "limits y"},
		{"int", "limit of z; default 8", "8", "limit of z"},
		{"int", "limit of z; default 64 MiB; one more fits", "64 MiB", "limit of z"},
		{"time.Duration", "X is a time. Default 24 h; NoX for none.", "24 h", "a time"},
		{"[]byte", "X are codes. Default: reliability.StopCodes, which are 0x81 and 0x82.", "reliability.StopCodes, which are 0x81 and 0x82", "codes"},
		{"string", "topic; required", "required", "topic"},
		{"string", "key for it; required with Cert", "required with Cert", "key for it"},
		{"string", "X lists y. Required.", "required", "lists y"},
		{"bool", "X does y. Otherwise z.", "false", "does y"},
		{"string", "default: none", "none", ""},
	} {
		f := Field{Name: "X", Type: tt.typ, Text: tt.text}
		if got, ok := f.Default(); got != tt.def || !ok || f.Meaning() != tt.meaning {
			t.Errorf("%q: default %q, meaning %q; want %q, %q", tt.text, got, f.Meaning(), tt.def, tt.meaning)
		}
	}
	if text, ok := (Field{Type: "int", Text: "limit of z"}).Default(); ok {
		t.Errorf("a comment without a default has the default %q", text)
	}
}

func TestNumber(t *testing.T) {
	s, err := Read(root)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int64{"1,000,000": 1e6, "16 MiB": 16 << 20, "250 ms": 250e6, "7 days": 7 * 24 * 3600e9, "2, values below 1 mean it": 2,
		"none": 0, "false": 0, "Republish": 1, "[SyncEach]": 0, "DropNewest": 3, "StopNever": 2} {
		if got := s.number("client", text); got != want {
			t.Errorf("%q is %d, want %d", text, got, want)
		}
	}
}
