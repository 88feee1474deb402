//go:build !linux

package fsys

import "os"

// datasync syncs a file. It fails if the file has been removed or replaced.
func datasync(f *os.File) error {
	if err := f.Sync(); err != nil {
		return err
	}
	return osFile{f}.Check()
}
