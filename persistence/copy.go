package persistence

import (
	"errors"
	"io"
)

// maxCopies bounds how many copies of damaged segments are kept in a folder.
const maxCopies = 16

// keepCopy copies a damaged segment, once, and returns the copy's path, or
// nothing when that fails: recovery does not depend on it.
func (r *recovery) keepCopy(f *found) string {
	fsys, name := r.log.o.FS, segmentName(r.log.dir, f.number)+corruptSuffix
	if old, err := fsys.Open(name); err == nil {
		old.Close()
		return name
	}
	if r.copies >= maxCopies {
		return ""
	}
	size, err := f.file.Size()
	if err != nil {
		return ""
	}
	to, err := fsys.Create(name)
	if err != nil {
		return ""
	}
	r.copies++
	_, err = io.Copy(io.NewOffsetWriter(to, 0), io.NewSectionReader(f.file, 0, size))
	if err = errors.Join(err, to.Sync(), to.Close(), fsys.SyncDir(r.log.dir)); err != nil {
		_ = fsys.Remove(name)
		return ""
	}
	return name
}
