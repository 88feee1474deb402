package readme

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/source"
)

var method = regexp.MustCompile("`([A-Za-z]+)\\.([A-Za-z]+)`")

// TestLifeOfAMessage checks that each function that docs/life-of-a-message.md names exists.
func TestLifeOfAMessage(t *testing.T) {
	declared := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				declared[source.Receiver(fn)+"."+fn.Name.Name] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, m := range method.FindAllStringSubmatch(documents(t)["docs/life-of-a-message.md"], -1) {
		if found++; !declared[m[1]+"."+m[2]] {
			t.Errorf("%s.%s does not exist", m[1], m[2])
		}
	}
	if found < 25 {
		t.Errorf("only %d functions are named", found)
	}
}
