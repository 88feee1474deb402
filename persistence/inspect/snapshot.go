package inspect

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// snapshot is a folder at one moment, as a file system that refuses every change. All
// files except the newest segment were complete when it was taken.
type snapshot struct {
	dir   string
	names []string // ascending
	files map[string]*still
	open  func(name string) (fsys.File, error)
}

// errChange is returned when recovery tries to copy a damaged file.
var errChange = errors.New("an inspection changes nothing")

// errRemoved is returned if a listed file is gone.
var errRemoved = errors.New("files come and go")

// maxLooks bounds how often look tries again.
const maxLooks = 20

// look takes a snapshot, and another one if a file was removed meanwhile.
func look(from fsys.FS, dir string) (files *snapshot, err error) {
	for range maxLooks {
		if files, err = takeSnapshot(from, dir); err != errRemoved {
			break
		}
	}
	return files, err
}

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
		if !recovery.IsLogFile(name) {
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

func (s *snapshot) Open(name string) (fsys.File, error) {
	if f := s.files[name]; f != nil {
		return f, nil
	}
	return s.open(name)
}

func (s *snapshot) ReadDir(string) ([]string, error) { return slices.Clone(s.names), nil }
func (s *snapshot) Create(string) (fsys.File, error) { return nil, errChange }
func (s *snapshot) Remove(string) error              { return errChange }
func (s *snapshot) MkdirAll(string) error            { return errChange }
func (s *snapshot) SyncDir(string) error             { return errChange }
func (s *snapshot) Rename(string, string) error      { return errChange }
func (s *snapshot) Lock(string) (fsys.Held, error)   { return nil, errChange }

// still is a file as it was when it was opened, while a process may append to it: front
// to back, in places that were zeros or did not exist. What is before the last byte
// that was not zero does not change, and the rest is taken for zeros.
type still struct {
	file    fsys.File
	size    int64
	written int64 // after the last byte that is not zero
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

func (f *still) Identity() uint64                   { return fsys.IdentityOf(f.file) }
func (f *still) Size() (int64, error)               { return f.size, nil }
func (f *still) WriteAt([]byte, int64) (int, error) { return 0, errChange }
func (f *still) Truncate(int64) error               { return errChange }
func (f *still) Sync() error                        { return nil } // no next segment depends on it
func (f *still) Close() error                       { return nil } // the snapshot closes its files
