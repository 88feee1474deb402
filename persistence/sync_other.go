//go:build !linux

package persistence

import "os"

// datasync also finds out when the file's name is gone: nobody will ever read
// what is written to it.
func datasync(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	_, err := os.Stat(f.Name())
	return err
}
