package recovery

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// readTimeout is how long an opening retries reads that the disk refuses, in total.
const readTimeout = 1500 * time.Millisecond

// unread is a place that the disk could not read, although it could read other places.
type unread struct {
	off, length int64
	err         error
	reported    bool
}

// retryFile reads a segment and retries failed reads. Bytes that cannot be read are replaced by
// 0xff, which is not a record, and are noted in the File.
type retryFile struct {
	fsys.File
	s *State
	f *File
}

// Identity returns the identity of the file.
func (p *retryFile) Identity() uint64 { return fsys.IdentityOf(p.File) }

func (p *retryFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.File.ReadAt(b, off)
	for wait := 50 * time.Millisecond; isUnread(err) && p.s.waited < readTimeout; wait *= 2 {
		time.Sleep(wait)
		p.s.waited += wait
		n, err = p.File.ReadAt(b, off)
	}
	if !isUnread(err) {
		return n, err
	}
	if !p.s.reads(p) {
		return n, err
	}
	for n = 0; n < len(b); {
		to := min(len(b), n+segment.PageSize-int((off+int64(n))%segment.PageSize))
		got, err := p.File.ReadAt(b[n:to], off+int64(n))
		if isUnread(err) {
			p.f.note(off+int64(n), int64(to-n), err)
			copy(b[n:to], bytes.Repeat([]byte{0xff}, to-n))
			got, err = to-n, nil
		}
		if n += got; err != nil {
			return n, err
		}
	}
	return n, nil
}

// isUnread reports whether the place that was read caused err, and not a lack of resources.
func isUnread(err error) bool {
	if err == nil || err == io.EOF {
		return false
	}
	for _, other := range []error{io.ErrUnexpectedEOF, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EINTR, fs.ErrPermission, fs.ErrClosed, fs.ErrNotExist} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// note adds an unreadable place, unless it is known.
func (f *File) note(off, length int64, err error) {
	for i := range f.unreadable {
		x := &f.unreadable[i]
		if off >= x.off && off+length <= x.off+x.length {
			return
		}
		if off <= x.off+x.length && off+length >= x.off { // it touches or overlaps a known place
			end := max(x.off+x.length, off+length)
			x.off = min(x.off, off)
			x.length = end - x.off
			return
		}
	}
	f.unreadable = append(f.unreadable, unread{off: off, length: length, err: err})
}

// cause returns the reason why a range is damaged. err is the reason if the disk could read the
// range.
func (f *File) cause(off, length int64, err error) error {
	for i := range f.unreadable {
		if x := &f.unreadable[i]; off < x.off+x.length && x.off < off+length {
			x.reported = true
			err = x.err
		}
	}
	return err
}

// reads reports whether the disk can read the header of another segment, or of this one if there is
// no other.
func (s *State) reads(p *retryFile) bool {
	b, others := make([]byte, segment.HeaderSize), false
	for _, name := range s.names {
		number := segment.ParseName(name)
		if number == 0 || number == p.f.Number {
			continue
		}
		others = true
		f, err := s.c.FS.Open(s.name(number))
		if err != nil {
			continue
		}
		_, err = f.ReadAt(b, 0)
		f.Close()
		if !isUnread(err) {
			return true
		}
	}
	if others {
		return false
	}
	_, err := p.File.ReadAt(b, 0)
	return !isUnread(err)
}

// preview reads the newest segment before it is scanned. If part of it cannot be read, the records
// after that part are still used, up to the zeros at the end.
func (s *State) preview(f *File, file fsys.File) error {
	b, end := make([]byte, 256<<10), int64(0)
	for off := int64(0); off < f.Size; {
		n, err := file.ReadAt(b[:min(int64(len(b)), f.Size-off)], off)
		if used := len(bytes.TrimRight(b[:n], "\x00")); used > 0 {
			end = off + int64(used)
		}
		if off += int64(n); err == io.EOF || n == 0 {
			break
		} else if err != nil {
			return err
		}
	}
	if len(f.unreadable) > 0 {
		f.Size = max(end, min(f.Size, segment.HeaderSize))
	}
	return nil
}
