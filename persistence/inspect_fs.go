package persistence

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// snapshot is a folder at one moment, as an [FS] that refuses every change. The
// log's files in it are opened after the folder was read: all of them but the
// newest segment were complete then.
type snapshot struct {
	dir   string
	names []string // ascending
	files map[string]*still
	open  func(name string) (fsys.File, error)
}

// errChange says that recovery tried to change something. It only does where it
// can go on without: to keep a copy of a damaged segment.
var errChange = errors.New("an inspection changes nothing")

// errRemoved says that a file was there and is gone.
var errRemoved = errors.New("files come and go")

func takeSnapshot(from fsys.FS, dir string) (*snapshot, error) {
	s := &snapshot{dir: dir, files: map[string]*still{}, open: from.Open}
	if from == fsys.OS {
		s.open = fsys.OpenReadOnly
	}
	var err error
	if s.names, err = from.ReadDir(dir); err != nil {
		return nil, err
	}
	slices.Sort(s.names)
	for _, name := range s.names {
		if !isLogFile(name) {
			continue
		}
		path := filepath.Join(dir, name)
		f, err := s.freeze(path)
		if err != nil {
			s.close()
			if errors.Is(err, fs.ErrNotExist) {
				err = errRemoved
			}
			return nil, err
		}
		s.files[path] = f
	}
	return s, nil
}

// isLogFile reports whether it is the name of a segment or of receipts.
func isLogFile(name string) bool {
	if hex, ok := strings.CutSuffix(name, receiptSuffix); ok {
		name = hex + segmentSuffix
	}
	return parseSegmentName(name) != 0
}

func (s *snapshot) freeze(path string) (*still, error) {
	f, err := s.open(path)
	if err != nil {
		return nil, err
	}
	in := &still{file: f}
	if in.size, err = f.Size(); err == nil {
		err = in.findEnd()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return in, nil
}

func (s *snapshot) close() error {
	var err error
	for _, f := range s.files {
		if e := f.file.Close(); !errors.Is(e, fs.ErrClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Open implements [FS].
func (s *snapshot) Open(name string) (fsys.File, error) {
	if f := s.files[name]; f != nil {
		return f, nil
	}
	return s.open(name)
}

// ReadDir implements [FS].
func (s *snapshot) ReadDir(string) ([]string, error) { return slices.Clone(s.names), nil }

// Create implements [FS].
func (s *snapshot) Create(string) (fsys.File, error) { return nil, errChange }

// Remove implements [FS].
func (s *snapshot) Remove(string) error { return errChange }

// MkdirAll implements [FS].
func (s *snapshot) MkdirAll(string) error { return errChange }

// SyncDir implements [FS].
func (s *snapshot) SyncDir(string) error { return errChange }

// Lock implements [FS].
func (s *snapshot) Lock(string) (io.Closer, error) { return nil, errChange }

// still is a file as it was when it was opened, while a process may append to it.
// Such a process writes from front to back, in places that were zeros or were not
// there. So what lies before the last byte that was not zero does not change any
// more, and what lies behind is taken for the zeros that it was.
type still struct {
	file    fsys.File
	size    int64
	written int64 // behind the last byte that is not zero
}

func (f *still) findEnd() error {
	buf := make([]byte, min(f.size, 64<<10))
	for f.written = f.size; f.written > 0; {
		b := buf[:min(f.written, int64(len(buf)))]
		from := f.written - int64(len(b))
		if n, err := f.file.ReadAt(b, from); n < len(b) {
			if err != io.EOF {
				return err
			}
			clear(b[n:]) // the zeros were cut off meanwhile
		}
		for n := len(b); n > 0; n-- {
			if b[n-1] != 0 {
				f.written = from + int64(n)
				return nil
			}
		}
		f.written = from
	}
	return nil
}

// ReadAt implements [File].
func (f *still) ReadAt(b []byte, off int64) (int, error) {
	if off >= f.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(b)) > f.size-off {
		b, end = b[:f.size-off], io.EOF
	}
	n := int(max(0, min(int64(len(b)), f.written-off)))
	if got, err := f.file.ReadAt(b[:n], off); got < n {
		return got, err
	}
	clear(b[n:])
	return len(b), end
}

// Size implements [File].
func (f *still) Size() (int64, error) { return f.size, nil }

// WriteAt implements [File].
func (f *still) WriteAt([]byte, int64) (int, error) { return 0, errChange }

// Truncate implements [File].
func (f *still) Truncate(int64) error { return errChange }

// Sync implements [File]. Recovery does it to be sure of what it builds upon;
// nothing is built here.
func (f *still) Sync() error { return nil }

// Close implements [File]. The snapshot closes its files.
func (f *still) Close() error { return nil }
