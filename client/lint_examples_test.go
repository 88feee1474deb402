package client_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/persistence"
)

// notClean are the findings that an example has, and why.
var notClean = map[string]string{
	// Its cache is filled from the file of results, which is empty at the first
	// start only.
	"examples/backend": "dedupe-forgets",
	// The session ends with the process, and the next one has another ClientID or
	// another broker.
	"examples/fleetboard": "dedupe-forgets",
}

// TestLint_Examples reads each Config that an example writes down, with
// something likely for what is only known when it runs.
func TestLint_Examples(t *testing.T) {
	seen := 0
	must(t, filepath.WalkDir("../examples", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok || !isName(lit.Type, "client", "Config") {
				return true
			}
			seen++
			var cfg client.Config
			fill(t, reflect.ValueOf(&cfg).Elem(), lit)
			if err := cfg.Validate(); err != nil {
				t.Errorf("%s: as it is read here, the Config cannot be: %v", path, err)
			}
			allowed := notClean[filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))]
			for _, f := range cfg.Lint() {
				if f.Name != allowed {
					t.Errorf("%s: %v", path, f)
				}
			}
			return true
		})
		return nil
	}))
	if seen < 6 {
		t.Errorf("%d Configs were found in the examples", seen)
	}
}

func isName(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// fill sets the fields that a composite literal names.
func fill(t *testing.T, v reflect.Value, lit *ast.CompositeLit) {
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			t.Fatalf("a literal without names")
		}
		name := kv.Key.(*ast.Ident).Name
		f := v.FieldByName(name)
		if f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
			f = f.Elem()
		}
		value := kv.Value
		if u, ok := value.(*ast.UnaryExpr); ok {
			value = u.X
		}
		inner, isLit := value.(*ast.CompositeLit)
		switch f.Interface().(type) {
		case []string:
			f.Set(reflect.ValueOf([]string{"mqtt://localhost:1883"}))
		case []byte:
			f.SetBytes([]byte("x"))
		case string:
			f.SetString(name)
		case bool:
			f.SetBool(!isIdent(value, "false"))
		case time.Duration:
			f.SetInt(duration(t, value))
		default:
			switch {
			case isLit && f.Kind() == reflect.Struct:
				fill(t, f, inner)
			case f.CanInt():
				f.SetInt(int64(intOf(t, value)))
			case f.CanUint():
				f.SetUint(uint64(intOf(t, value)))
			case name == "Custom":
				f.Set(reflect.ValueOf(persistence.NewMemory(persistence.Options{})))
			case name == "Dedupe":
				f.Set(reflect.ValueOf(dedupe.NewMemory(dedupe.Options{})))
			case name == "Dial":
				f.Set(reflect.ValueOf(func(context.Context, *url.URL) (net.Conn, error) { return nil, net.ErrClosed }))
			}
		}
	}
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

// duration is that of NoSession, time.Second, 3 * time.Second; 0: only known when
// it runs.
func duration(t *testing.T, e ast.Expr) int64 {
	switch e := e.(type) {
	case *ast.BinaryExpr:
		return int64(intOf(t, e.X)) * duration(t, e.Y)
	case *ast.SelectorExpr:
		units := map[string]time.Duration{"NoSession": client.NoSession, "Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}
		d, ok := units[e.Sel.Name]
		if !ok {
			t.Errorf("what is %s?", e.Sel.Name)
		}
		return int64(d)
	}
	return 0
}

func intOf(t *testing.T, e ast.Expr) int {
	lit, ok := e.(*ast.BasicLit)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(strings.ReplaceAll(lit.Value, "_", ""))
	if err != nil {
		t.Errorf("%s is not read: %v", lit.Value, err)
	}
	return n
}
