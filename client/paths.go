package client

import (
	"fmt"
	"path/filepath"
)

// absolutePaths makes the paths of a Config absolute, so that os.Chdir does not change what they name.
func absolutePaths(cfg *Config) error {
	if files := cfg.Connection.TLSFiles; files != nil {
		copied := *files
		cfg.Connection.TLSFiles = &copied
		for _, path := range []*string{&copied.CA, &copied.Cert, &copied.Key} {
			if err := absolute(path, "Connection.TLSFiles"); err != nil {
				return err
			}
		}
	}
	return absolute(&cfg.Dir, "Dir")
}

// absolute makes a path absolute, unless it is empty.
func absolute(path *string, field string) error {
	if *path == "" {
		return nil
	}
	whole, err := filepath.Abs(*path)
	if err != nil {
		return &ConfigError{Field: field, Problem: fmt.Sprintf("is a relative path, and the working directory is unknown: %v; use an absolute path", err)}
	}
	*path = whole
	return nil
}
