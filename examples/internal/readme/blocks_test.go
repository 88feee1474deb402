package readme

import (
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "github.com/mooring-mqtt/mooring/"

// imports are the packages that a block may use. A block without an import declaration
// imports them by itself.
var imports = map[string]string{
	"client": module + "client", "presence": module + "client/presence", "mqtttest": module + "client/mqtttest",
	"persistence": module + "persistence", "inspect": module + "persistence/inspect", "dedupe": module + "dedupe",
	"ordering": module + "ordering", "reliability": module + "reliability",
	"context": "context", "errors": "errors", "fmt": "fmt", "log": "log", "net": "net", "os": "os", "testing": "testing", "time": "time",
	"json": "encoding/json", "signal": "os/signal", "slog": "log/slog", "synctest": "testing/synctest", "syscall": "syscall", "url": "net/url",
	"autopaho": "github.com/eclipse/paho.golang/autopaho", "file": "github.com/eclipse/paho.golang/autopaho/queue/file", "paho": "github.com/eclipse/paho.golang/paho",
}

// given are the names that a block may use without declaring them.
var given = map[string]string{
	"ctx":     "var ctx context.Context",
	"c":       "var c *client.Client",
	"cfg":     "var cfg client.Config",
	"t":       "var t *testing.T",
	"b":       "var b *mqtttest.Broker",
	"servers": "var servers []string",
	"server":  "var server *url.URL",
	"queue":   "var queue *file.Queue", // of autopaho
	"payload": "var payload []byte",
	"rpm":     "var rpm []byte",
	"measure": "func measure() []byte { return nil }",
	"run":     "func run([]byte) error { return nil }",
	"store":   "func store(string, []byte) error { return nil }",
}

// block is a Go block of a document: a whole file, declarations, or statements.
type block struct {
	document string
	line     int // of its first line of code
	code     string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.document, b.line) }

var fence = regexp.MustCompile("(?ms)^[ \t]*```go\\b[^\n]*\n(.*?)^[ \t]*```")

// blocks returns the Go blocks of a document.
func blocks(name, text string) (list []block) {
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		list = append(list, block{name, strings.Count(text[:at[2]], "\n") + 1, text[at[2]:at[3]]})
	}
	return list
}

// compiler checks the types of blocks.
type compiler struct {
	files    *token.FileSet
	packages types.Importer
}

// newCompiler compiles the packages of imports, all with one command.
func newCompiler(t *testing.T) *compiler {
	t.Helper()
	cmd := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}")
	for _, path := range imports {
		cmd.Args = append(cmd.Args, path)
	}
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	export := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		export[path] = file
	}
	files := token.NewFileSet()
	return &compiler{files, importer.ForCompiler(files, "gc", func(path string) (io.ReadCloser, error) {
		if export[path] == "" {
			return nil, fmt.Errorf("%q is not in imports, see blocks_test.go", path)
		}
		return os.Open(export[path])
	})}
}

// compile returns the errors of a block, with their positions in the document.
func (c *compiler) compile(b block) error {
	line := fmt.Sprintf("//line %s\n", b)
	if file, err := c.parse(line + b.code); err == nil || strings.HasPrefix(strings.TrimSpace(b.code), "package ") {
		if err != nil {
			return err
		}
		_, err = c.check(file)
		return err
	}
	before, after := "", "\n" // declarations
	if _, err := c.parse("package p\n" + line + b.code); err != nil {
		before, after = "func _() error {\n", "\nreturn nil\n}\n" // statements
	}
	head, added := "package p\n", map[string]bool{}
	for {
		file, err := c.parse(head + before + line + b.code + after)
		if err != nil {
			return err
		}
		undefined, err := c.check(file)
		more := false
		for _, name := range undefined {
			if added[name] {
				continue
			}
			if path := imports[name]; path != "" {
				head += fmt.Sprintf("import %q\n", path)
			} else if given[name] != "" {
				after += given[name] + "\n"
			} else {
				continue
			}
			added[name], more = true, true
		}
		if !more {
			return err
		}
	}
}

func (c *compiler) parse(code string) (*ast.File, error) {
	return parser.ParseFile(c.files, "", code, parser.SkipObjectResolution)
}

// check returns the undefined names and all errors. Statements need not use the
// variables that they declare: a block may be a part of a function.
func (c *compiler) check(file *ast.File) (undefined []string, err error) {
	var list []error
	config := types.Config{Importer: c.packages, Error: func(err error) {
		var e types.Error
		if errors.As(err, &e) && e.Soft && file.Name.Name == "p" && strings.HasPrefix(e.Msg, "declared and not used") {
			return
		}
		if name, ok := strings.CutPrefix(e.Msg, "undefined: "); ok {
			undefined = append(undefined, name)
		}
		list = append(list, err)
	}}
	pkg, _ := config.Check(file.Name.Name, c.files, []*ast.File{file}, nil) // Error has received the error
	if len(list) == 0 && pkg.Name() == "main" && pkg.Scope().Lookup("main") == nil {
		list = append(list, fmt.Errorf("%s: package main has no function main", c.files.Position(file.Pos())))
	}
	return undefined, errors.Join(list...)
}

// quotes are the documents whose blocks are parts of the Go files in a folder. The
// tests of the folder compile and run them.
var quotes = map[string]string{
	"docs/guides/testing.md":         "examples/testing",
	"examples/sqlitestore/README.md": "examples/sqlitestore", // a module of its own
}

// TestGoBlocks_Compile: each Go block of each document compiles.
func TestGoBlocks_Compile(t *testing.T) {
	c, n := newCompiler(t), 0
	for name, text := range documents(t) {
		for _, b := range blocks(name, text) {
			n++
			if folder := quotes[name]; folder != "" {
				if !quoted(t, filepath.Join(root, folder), b.code) {
					t.Errorf("%s: no Go file in %s contains these lines", b, folder)
				}
			} else if err := c.compile(b); err != nil {
				t.Errorf("%s: the block does not compile:\n%v", b, err)
			}
		}
	}
	if n < 8 {
		t.Errorf("only %d Go blocks", n)
	}
}

// quoted reports whether a Go file in folder contains all lines of code, one after the other.
func quoted(t *testing.T, folder, code string) bool {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(folder, "*.go")) // the pattern is valid
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(unindented(string(text)), unindented(code)) {
			return true
		}
	}
	return false
}

func unindented(text string) string {
	return regexp.MustCompile(`(?m)^[ \t]+`).ReplaceAllString(text, "")
}

// TestGoBlocks_Errors: the check of blocks finds errors and names their lines.
func TestGoBlocks_Errors(t *testing.T) {
	c := newCompiler(t)
	for _, test := range []struct{ code, want string }{
		{"package main\n\nfunc main() {}\n", ""},
		{"package main\n\nfunc man() {}\n", "no function main"},
		{"package main\n\nimport \"fmt\"\n\nfunc main() {}\n", "doc.md:9"},
		{"package main\n\nfunc main() {\n", "doc.md:9: expected"},
		{"var x = client.Config{Dir: \"d\"}\n", ""},
		{"var x = client.Config{}\nvar y = client.Config{Directory: \"d\"}\n", "doc.md:8:"},
		{"d, err := c.Publish(ctx, client.Message{})\n", ""},
		{"d, err := c.Publish(client.Message{})\n", "doc.md:7:"},
		{"if err := c.Close(); err != nil {\n\treturn err\n}\nc.Open()\n", "doc.md:10:"},
		{"x := unknown\n", "undefined: unknown"},
		{"o := mqtt.NewClientOptions()\n", "undefined: mqtt"},
		{"for {\n", "doc.md:"},
	} {
		err := c.compile(block{"doc.md", 7, test.code})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.code, err, test.want)
		}
	}
	if got := blocks("doc.md", "a\n```go\nx\ny\n```\n```golang\nz\n```\n"); len(got) != 1 || got[0] != (block{"doc.md", 3, "x\ny\n"}) {
		t.Errorf("%q", got)
	}
}
