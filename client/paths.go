package client

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/internal/link"
)

// prepare validates a Config, makes its paths absolute, and checks its files.
func (c *Config) prepare() error {
	if err := c.Validate(); err != nil {
		return err
	}
	if err := absolutePaths(c); err != nil {
		return err
	}
	return c.checkTLSFiles()
}

// absolutePaths makes the paths of a Config absolute, so that os.Chdir does not change their
// meaning.
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
	if on := cfg.Store.Options.FS; on != nil && on != fsys.OS { // FS interprets its own paths
		return nil
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

// files returns the link's form of TLSFiles, or nil.
func (c *Config) files() *link.TLSFiles {
	if c.Connection.TLSFiles == nil {
		return nil
	}
	files := link.TLSFiles(*c.Connection.TLSFiles)
	return &files
}

// lookAtFiles limits how long New waits for the files that TLSFiles names: a file system may hang.
const lookAtFiles = 2 * time.Second

// checkTLSFiles returns a *ConfigError if a file of TLSFiles has an unsupported format.
func (c *Config) checkTLSFiles() error {
	d := &link.Dialer{Files: c.files()}
	ctx, cancel := context.WithTimeout(context.Background(), lookAtFiles)
	defer cancel()
	if err := d.CheckFiles(ctx); err != nil {
		return &ConfigError{Field: "Connection.TLSFiles", Problem: err.Error(), cause: publicError(err)}
	}
	return nil
}
