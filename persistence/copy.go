package persistence

import (
	"errors"
	"io"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// maxCopies bounds how many copies of damaged files are kept in a folder.
const maxCopies = 16

// keepCopy copies a damaged file, once, and returns the copy's path, or nothing
// when that fails: recovery does not depend on it.
func (l *Log) keepCopy(file fsys.File, path string) string {
	files, name := l.o.FS, path+corruptSuffix
	if old, err := files.Open(name); err == nil {
		old.Close()
		return name
	}
	if l.copies >= maxCopies {
		return ""
	}
	size, err := file.Size()
	if err != nil {
		return ""
	}
	to, err := files.Create(name)
	if err != nil {
		return ""
	}
	l.copies++
	_, err = io.Copy(io.NewOffsetWriter(to, 0), io.NewSectionReader(file, 0, size))
	if err = errors.Join(err, to.Sync(), to.Close(), files.SyncDir(l.dir)); err != nil {
		_ = files.Remove(name)
		return ""
	}
	return name
}
