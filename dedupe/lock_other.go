//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package dedupe

import (
	"errors"
	"fmt"
	"os"
)

// lockFile fails: without a lock that ends with its process, either a second
// writer or a killed one would do harm.
func lockFile(path string) (*os.File, error) {
	return nil, fmt.Errorf("dedupe: cannot lock %s on this system; use Memory or your own Cache: %w", path, errors.ErrUnsupported)
}

func unlockFile(l *os.File) { l.Close() }
