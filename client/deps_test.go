package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mooring-mqtt/mooring"

// goPackage is the description of a package by go list.
type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Module     *struct{ Path string }
}

func goList(t *testing.T, args ...string) (list []goPackage) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Standard,Imports,Module"}, args...)...)
	cmd.Dir = ".."
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// A program links paho.golang, its WebSocket library, uuid, gobreaker and the SOCKS5 client of
// golang.org/x/net, but none of the module's tests.
func TestDependencies_OfAProgram(t *testing.T) {
	t.Parallel()
	modules := map[string]bool{}
	for _, p := range goList(t, "-deps", module+"/client", module+"/persistence", module+"/dedupe", module+"/ordering", module+"/reliability") {
		switch {
		case p.ImportPath == "testing" || strings.HasPrefix(p.ImportPath, "testing/"), p.ImportPath == "database/sql",
			strings.Contains(p.ImportPath, "redis"), !p.Standard && strings.HasSuffix(p.ImportPath, "test"):
			t.Errorf("a program that imports client links %s", p.ImportPath)
		}
		if p.Module != nil {
			modules[p.Module.Path] = true
		}
	}
	allowed := []string{module, "github.com/eclipse/paho.golang", "github.com/gorilla/websocket", "github.com/google/uuid", "github.com/sony/gobreaker/v2", "golang.org/x/net"}
	for m := range modules {
		if !slices.Contains(allowed, m) {
			t.Errorf("a program that imports client links the module %s", m)
		}
	}
}

// This is the list of packages that each package of the module may import, of the module and of
// paho.golang.
func TestDependencies_ImportDirections(t *testing.T) {
	t.Parallel()
	const paho = "github.com/eclipse/paho.golang"
	// every package may use these
	everybody := []string{"internal/notify", "internal/callback", "internal/topic", "internal/fsys", "internal/safe"}
	may := map[string][]string{
		"client": {"client/presence", "reliability", "dedupe", "ordering", "persistence", "internal/wire", "internal/session", "internal/link", "internal/outbox", "internal/deferral", "internal/inbox", "internal/slow", "internal/setaside",
			"internal/subs", "internal/retained", "internal/status", "internal/summary", paho},
		"client/presence":   {},
		"client/mqtttest":   {"internal/wire", "internal/wire/control"},
		"reliability":       {},
		"dedupe":            {},
		"dedupe/dedupetest": {"dedupe"},
		"ordering":          {},
		"persistence": {"persistence/internal/index", "persistence/internal/ledger", "persistence/internal/memfs", "persistence/internal/receipts",
			"persistence/internal/record", "persistence/internal/recovery", "persistence/internal/segment"},
		"persistence/inspect": {"persistence", "persistence/internal/index", "persistence/internal/ledger", "persistence/internal/receipts",
			"persistence/internal/record", "persistence/internal/recovery", "persistence/internal/segment"},
		"persistence/internal/index":    {"persistence/internal/record"},
		"persistence/internal/ledger":   {"persistence/internal/record", "persistence/internal/segment"},
		"persistence/internal/memfs":    {},
		"persistence/internal/receipts": {"persistence/internal/index", "persistence/internal/record", "persistence/internal/segment"},
		"persistence/internal/record":   {},
		"persistence/internal/recovery": {"persistence/internal/index", "persistence/internal/ledger", "persistence/internal/receipts",
			"persistence/internal/record", "persistence/internal/segment"},
		"persistence/internal/segment": {"persistence/internal/record"},
		"persistence/persistencetest":  {"persistence"},
		"internal/wire":                {},
		"internal/wire/control":        {"internal/wire"},
		"internal/session":             {"internal/wire", "internal/fingerprint", paho},
		"internal/link":                {"internal/session", "internal/wire", "reliability", paho},
		"internal/deferral":            {"internal/wire", "persistence", "reliability"},
		"internal/slow":                {},
		"internal/setaside":            {"persistence", "internal/fsys", "internal/safe"},
		"internal/status":              {"client/presence", "reliability", "internal/session", "internal/wire"},
		"internal/ackserver":           {"internal/wire", "internal/wire/control"},
		"internal/leaktest":            {},
	}
	seen := map[string]bool{}
	for _, p := range goList(t, "./...") {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		allowed, known := may[name]
		seen[name] = true
		if !known {
			// Programs and their helpers may import any package. A library package must be listed
			// above.
			if !strings.HasPrefix(name, "examples/") && !strings.HasPrefix(name, "internal/") && !strings.HasPrefix(name, "cmd/") {
				t.Errorf("package %s is new: say here what it may import", name)
			}
			continue
		}
		for _, i := range p.Imports {
			short := strings.TrimPrefix(i, module+"/")
			if strings.HasPrefix(i, paho) {
				short = paho
			}
			if (short != i || short == paho) && !slices.Contains(allowed, short) && !slices.Contains(everybody, short) {
				t.Errorf("%s imports %s, against the design", name, i)
			}
		}
	}
	for name := range may {
		if !seen[name] {
			t.Errorf("package %s is gone: take its line out", name)
		}
	}
}

// The four leaf packages import neither each other nor other packages of the module, including
// their tests.
func TestDependencies_LeafPackages(t *testing.T) {
	for _, leaf := range []string{"reliability", "dedupe", "ordering", "persistence"} {
		files, err := filepath.Glob(filepath.Join("..", leaf, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has no files: %v", leaf, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, other := range []string{"client", "reliability", "dedupe", "ordering", "persistence"} {
				if other != leaf && strings.Contains(string(b), `"`+module+"/"+other+`"`) {
					t.Errorf("%s imports %s", file, other)
				}
			}
		}
	}
}
