// Command texts lists every error text, log line and event of the public packages in
// docs/reference/messages.md, so that they can be read in one place.
//
//	go run ./internal/texts          compare the page with the code
//	go run ./internal/texts -write   write the page
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mooring-mqtt/mooring/internal/source"
)

const page = "docs/reference/messages.md"

func main() {
	write := flag.Bool("write", false, "write "+page)
	dir := flag.String("dir", ".", "the module")
	flag.Parse()
	m, err := source.Load(*dir)
	if err == nil {
		err = update(filepath.Join(m.Dir, page), render(collect(m)), *write)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "texts:", err)
		os.Exit(1)
	}
}

// update writes text to a file, or checks that the file contains it.
func update(file, text string, write bool) error {
	if write {
		return os.WriteFile(file, []byte(text), 0o644)
	}
	old, err := os.ReadFile(file)
	if err == nil && string(old) != text {
		err = fmt.Errorf("%s differs from the code; run go run ./internal/texts -write", page)
	}
	return err
}
