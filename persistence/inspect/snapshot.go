package inspect

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
)

// snapshot is a read-only file system that shows a folder at one moment. When the snapshot was
// taken, all files except the newest segment were complete.
type snapshot struct {
	dir   string
	names []string // ascending
	files map[string]*still
	from  func(name string) (fsys.File, error)

	mu     sync.Mutex
	opened []*still // at most maxOpen, in the order of their last use
	closed bool
}

// maxOpen bounds the files that a snapshot keeps open.
const maxOpen = 8

// errChange is the error of every attempt to change the folder. Package recovery makes such an
// attempt when it copies a damaged file.
var errChange = errors.New("inspect does not change the folder")

// errRemoved is returned if a listed file was removed.
var errRemoved = fmt.Errorf("a file was removed during the inspection: %w", fs.ErrNotExist)

// maxLooks bounds the attempts of Open to take a snapshot. An attempt fails if a file is removed
// during it.
const maxLooks = 20

func takeSnapshot(from fsys.FS, dir string) (*snapshot, error) {
	s := &snapshot{dir: dir, files: map[string]*still{}, from: from.Open}
	if from == fsys.OS {
		s.from = fsys.OpenReadOnly
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
			_ = s.close()
			return nil, err
		}
		s.files[path] = f
	}
	return s, nil
}

func (s *snapshot) freeze(path string) (*still, error) {
	in := &still{s: s, path: path}
	f, err := s.file(in)
	if err != nil {
		return nil, err
	}
	in.identity = fsys.IdentityOf(f)
	if in.size, err = f.Size(); err == nil {
		err = in.findEnd(f)
	}
	return in, err
}

// file opens f if necessary and returns the open file. If too many files are open, it closes
// another one first. The caller holds mu, unless no other goroutine has access to s.
func (s *snapshot) file(f *still) (fsys.File, error) {
	if s.closed {
		return nil, fs.ErrClosed
	}
	at := slices.Index(s.opened, f)
	if at < 0 {
		if len(s.opened) == maxOpen {
			_ = s.opened[0].file.Close()
			s.opened = slices.Delete(s.opened, 0, 1)
		}
		var err error
		if f.file, err = s.from(f.path); errors.Is(err, fs.ErrNotExist) {
			return nil, errRemoved
		} else if err != nil {
			return nil, err
		}
	} else {
		s.opened = slices.Delete(s.opened, at, at+1)
	}
	s.opened = append(s.opened, f)
	return f.file, nil
}

func (s *snapshot) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	for _, f := range s.opened {
		err = errors.Join(err, f.file.Close())
	}
	s.opened, s.closed = nil, true
	return err
}

func (s *snapshot) Open(name string) (fsys.File, error) {
	if f := s.files[name]; f != nil {
		return f, nil
	}
	return s.from(name)
}

func (s *snapshot) ReadDir(string) ([]string, error) { return slices.Clone(s.names), nil }
func (s *snapshot) Create(string) (fsys.File, error) { return nil, errChange }
func (s *snapshot) Remove(string) error              { return errChange }
func (s *snapshot) MkdirAll(string) error            { return errChange }
func (s *snapshot) SyncDir(string) error             { return errChange }
func (s *snapshot) Rename(string, string) error      { return errChange }
func (s *snapshot) Lock(string) (fsys.Held, error)   { return nil, errChange }

// still is a file as it was when it was opened. A process may append to the file after that. It
// writes in ascending order, and only where the file had zeros or ended. So the bytes up to the
// last one that was not zero do not change. All later bytes are read as zeros.
type still struct {
	s        *snapshot
	path     string
	file     fsys.File // open if s.opened contains the still
	identity uint64
	size     int64
	written  int64 // end of the last byte that is not zero
}

func (f *still) findEnd(file fsys.File) error {
	buf := make([]byte, min(f.size, 64<<10))
	for f.written = f.size; f.written > 0; {
		b := buf[:min(f.written, int64(len(buf)))]
		from := f.written - int64(len(b))
		if n, err := file.ReadAt(b, from); n < len(b) {
			if err != io.EOF {
				return err
			}
			clear(b[n:]) // the zeros were truncated meanwhile
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
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	file, err := f.s.file(f)
	if err != nil {
		return 0, err
	}
	if got, err := file.ReadAt(b[:n], off); got < n {
		return got, err
	}
	clear(b[n:])
	return len(b), end
}

func (f *still) Identity() uint64                   { return f.identity }
func (f *still) Size() (int64, error)               { return f.size, nil }
func (f *still) WriteAt([]byte, int64) (int, error) { return 0, errChange }
func (f *still) Truncate(int64) error               { return errChange }
func (f *still) Sync() error                        { return nil } // no segment is written that depends on it
func (f *still) Close() error                       { return nil } // the snapshot closes its files
