package persistence

import (
	"errors"
	"io"
)

// maxCopies bounds how many copies of damaged files are kept in a folder.
const maxCopies = 16

// keepCopy copies a damaged file, once, and returns the copy's path, or nothing
// when that fails: recovery does not depend on it.
func (l *Log) keepCopy(file File, path string) string {
	fsys, name := l.o.FS, path+corruptSuffix
	if old, err := fsys.Open(name); err == nil {
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
	to, err := fsys.Create(name)
	if err != nil {
		return ""
	}
	l.copies++
	_, err = io.Copy(io.NewOffsetWriter(to, 0), io.NewSectionReader(file, 0, size))
	if err = errors.Join(err, to.Sync(), to.Close(), fsys.SyncDir(l.dir)); err != nil {
		_ = fsys.Remove(name)
		return ""
	}
	return name
}
