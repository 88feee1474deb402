package recovery

import (
	"errors"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// CopySuffix is the suffix of the name of a copy of a damaged file.
const CopySuffix = ".corrupt"

const maxCopies = 16 // per folder

// list reads the headers of the segments.
func (s *State) list(names []string) error {
	for _, name := range names {
		if base, ok := strings.CutSuffix(name, CopySuffix); ok && IsLogFile(base) {
			s.copies++
		}
		number := segment.ParseName(name)
		if number == 0 {
			continue
		}
		f := &File{Number: number}
		s.Newest, s.Files = number, append(s.Files, f)
		if err := s.readHeader(f); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the open file. The State can be used again.
func (s *State) Close() {
	if s.file != nil {
		s.file.Close()
		s.file, s.of = nil, nil
	}
}

// open returns the file of a segment. The file stays open until Close, or until open is called for
// another segment.
func (s *State) open(f *File) (fsys.File, error) {
	if s.of == f {
		return s.file, nil
	}
	s.Close()
	file, err := s.c.FS.Open(s.name(f.Number))
	if err != nil {
		return nil, err
	}
	s.file, s.of = &retryFile{File: file, s: s, f: f}, f
	return s.file, nil
}

// IsLogFile reports whether a file name is that of a segment or of receipts.
func IsLogFile(name string) bool {
	return segment.ParseName(name) != 0 || receipts.ParseName(name) != 0
}

func (s *State) readHeader(f *File) error {
	file, err := s.open(f)
	if err != nil {
		return err
	}
	if f.Size, err = file.Size(); err != nil {
		return err
	}
	f.Bytes, f.identity = f.Size, fsys.IdentityOf(file)
	if f.header, err = segment.ReadHeader(file, s.name(f.Number)); err != nil && err != segment.ErrHeader {
		return err
	}
	if f.unread = err != nil || f.header.Number != f.Number; f.unread {
		f.header = segment.Header{} // do not use the header of another segment
	}
	f.Version = f.header.Version
	if s.Ledger.Epoch == 0 {
		s.Ledger.Epoch = f.header.Epoch
	}
	return nil
}

// loadReceipts reads the headers of the receipts files. A file is garbage if its segment is still
// in use, because the file was not finished, or will be written again. An unreadable file is
// garbage after a copy was kept. If receipts are disabled, all receipts files are garbage.
func (s *State) loadReceipts(names []string) error {
	for _, name := range names {
		number := receipts.ParseName(name)
		if number == 0 {
			continue
		}
		path := filepath.Join(s.c.Dir, name)
		inUse := slices.ContainsFunc(s.Catalog.Segments, func(seg *index.Segment) bool { return seg.Number == number })
		f, file, err := receipts.Load(s.c.FS, path, number)
		if err == receipts.ErrInvalid && !inUse {
			length, _ := file.Size()
			s.report(Damage{File: path, Length: length, Copy: s.keepCopy(file, path), Err: err})
		}
		if file != nil {
			file.Close()
		}
		switch {
		case err != nil && err != receipts.ErrInvalid:
			return err
		case err != nil || inUse || !s.c.Receipts:
			s.Garbage = append(s.Garbage, path)
		default:
			s.Receipts.Add(f)
		}
	}
	return nil
}

// keepCopy copies a damaged file, unless a copy exists, and returns the path of the copy. On
// failure it returns "", because recovery does not depend on the copy.
func (s *State) keepCopy(file fsys.File, path string) string {
	name := path + CopySuffix
	if old, err := s.c.FS.Open(name); err == nil {
		old.Close()
		return name
	}
	if s.copies >= maxCopies {
		return ""
	}
	to, err := s.c.FS.Create(name)
	if err != nil {
		return ""
	}
	s.copies++
	_, err = io.Copy(io.NewOffsetWriter(to, 0), io.NewSectionReader(file, 0, math.MaxInt64))
	if err = errors.Join(err, to.Sync(), to.Close(), s.c.FS.SyncDir(s.c.Dir)); err != nil {
		_ = s.c.FS.Remove(name)
		return ""
	}
	return name
}

// RemoveAll makes all segments garbage.
func (s *State) RemoveAll() {
	for _, seg := range s.Catalog.Segments {
		s.Garbage = append(s.Garbage, s.name(seg.Number))
	}
	s.Catalog = index.Catalog{}
}
