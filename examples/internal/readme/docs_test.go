package readme

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/mooring-mqtt/mooring/internal/source"
)

const root = "../../.."

// documents are the files that people read here, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("git", "-C", root, "ls-files", "*.md").Output()
	files := strings.Fields(string(out))
	if err != nil || len(files) == 0 { // not a checkout
		for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "docs/guides/*.md"} {
			found, _ := filepath.Glob(filepath.Join(root, pattern))
			for _, f := range found {
				rel, _ := filepath.Rel(root, f)
				files = append(files, rel)
			}
		}
	}
	docs := map[string]string{}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			t.Fatal(err)
		}
		docs[filepath.ToSlash(f)] = string(text)
	}
	if len(docs) < 40 {
		t.Fatalf("only %d documents", len(docs))
	}
	return docs
}

var (
	code    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
)

// anchor is what a heading is called in a link.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '-':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '_':
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// TestLinksLead: each link from a document to a file of this repository, and to a
// heading in one, leads somewhere.
func TestLinksLead(t *testing.T) {
	docs, links := documents(t), 0
	for name, text := range docs {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(text, ""), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue // of another site
			}
			links++
			to := name
			if target != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(name), target))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: %s leads nowhere", name, m[1])
				continue
			}
			if fragment == "" {
				continue
			}
			there := false
			for _, h := range heading.FindAllStringSubmatch(docs[to], -1) {
				there = there || anchor(h[1]) == fragment
			}
			if !there {
				t.Errorf("%s: %s has no heading #%s", name, to, fragment)
			}
		}
	}
	if links < 100 {
		t.Fatalf("only %d links were looked at", links)
	}
}

// TestDocumentsAreFound: each document of docs and docs/guides is named in docs/index.md.
func TestDocumentsAreFound(t *testing.T) {
	docs := documents(t)
	for name := range docs {
		base, ok := strings.CutPrefix(name, "docs/")
		if ok && base != "index.md" && !strings.Contains(strings.TrimPrefix(base, "guides/"), "/") && !strings.Contains(docs["docs/index.md"], "]("+base) {
			t.Errorf("%s is not in docs/index.md", name)
		}
	}
}

// folders are the packages that docs/patterns.md names by their last element only.
var folders = map[string]string{"presence": "client/presence", "mqtttest": "client/mqtttest"}

// names are what a package declares: functions, types, Type.Field, Type.Method,
// tests and examples.
func names(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(root, folder, "*.go"))
	found, types := map[string]bool{}, map[string]string{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				found[strings.TrimPrefix(source.Receiver(d)+"."+d.Name.Name, ".")] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					declared(found, types, s)
				}
			}
		}
	}
	addPaths(found, types)
	return found
}

// addPaths adds Type.Field.Field for fields whose type is another type of the package.
func addPaths(found map[string]bool, types map[string]string) {
	for field, of := range types {
		for name := range found {
			if rest, ok := strings.CutPrefix(name, of+"."); ok && !strings.Contains(rest, ".") {
				found[field+"."+rest] = true
			}
		}
	}
}

func declared(found map[string]bool, types map[string]string, s ast.Spec) {
	switch s := s.(type) {
	case *ast.ValueSpec:
		for _, n := range s.Names {
			found[n.Name] = true
		}
	case *ast.TypeSpec:
		found[s.Name.Name] = true
		if st, ok := s.Type.(*ast.StructType); ok {
			for _, f := range st.Fields.List {
				for _, n := range f.Names {
					found[s.Name.Name+"."+n.Name] = true
					if of, ok := f.Type.(*ast.Ident); ok {
						types[s.Name.Name+"."+n.Name] = of.Name
					}
				}
			}
		}
	}
}
