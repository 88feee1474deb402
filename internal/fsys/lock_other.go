//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package fsys

import (
	"errors"
	"os"
)

// Lock returns an error: this system has no lock that ends with its process.
func Lock(name string) (Held, error) {
	return nil, &os.PathError{Op: "lock", Path: name, Err: errors.ErrUnsupported}
}
