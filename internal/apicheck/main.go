package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/source"
)

const update = "go run ./internal/apicheck -write"

func main() {
	write := flag.Bool("write", false, "write the files in docs/api")
	dir := flag.String("dir", ".", "the module")
	flag.Parse()
	m, err := source.Load(*dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "apicheck:", err)
		os.Exit(2)
	}
	folder := filepath.Join(m.Dir, "docs", "api")
	var problems []string
	if *write {
		err = record(m, folder)
	} else {
		problems, err = compare(m, folder)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "apicheck:", err)
		os.Exit(2)
	}
	for _, p := range problems {
		fmt.Println(p)
	}
	if len(problems) > 0 {
		os.Exit(1)
	}
}

// fileName returns the file name for a package, for example "client-presence.txt".
func fileName(path string) string { return strings.ReplaceAll(path, "/", "-") + ".txt" }

func record(m *source.Module, folder string) error {
	old, err := recorded(folder)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, p := range publicPackages(m) {
		name := fileName(p.Path)
		delete(old, name)
		if err := os.WriteFile(filepath.Join(folder, name), []byte(strings.Join(api(p.Types), "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	for name := range old { // the package no longer exists
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return nil
}

// recorded returns the lines of each file in the folder.
func recorded(folder string) (map[string][]string, error) {
	files := map[string][]string{}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return files, nil
	} else if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		files[e.Name()] = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	return files, nil
}

// compare returns one line for each line of the API that is only in the files or only in the code.
func compare(m *source.Module, folder string) (problems []string, err error) {
	files, err := recorded(folder)
	if err != nil {
		return nil, err
	}
	for _, p := range publicPackages(m) {
		name := fileName(p.Path)
		problems = append(problems, difference(p.Path, files[name], api(p.Types))...)
		delete(files, name)
	}
	for name := range files {
		problems = append(problems, fmt.Sprintf("docs/api/%s: the package does not exist", name))
	}
	if len(problems) > 0 {
		problems = append(problems, "The API differs from docs/api. If that is intended: "+update)
	}
	return problems, nil
}

func difference(path string, old, new []string) (lines []string) {
	for _, line := range old {
		if !slices.Contains(new, line) {
			lines = append(lines, fmt.Sprintf("%s: - %s", path, line))
		}
	}
	for _, line := range new {
		if !slices.Contains(old, line) {
			lines = append(lines, fmt.Sprintf("%s: + %s", path, line))
		}
	}
	return lines
}
