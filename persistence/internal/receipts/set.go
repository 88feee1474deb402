package receipts

import (
	"errors"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Set is the receipts files in a folder. The caller guards it with a lock.
type Set struct {
	Files []File // oldest first
	Total uint64 // number of receipts
	Bytes int64  // size of the files
}

// Has reports whether the newest file contains the receipts of this segment.
func (s *Set) Has(number uint64) bool {
	return len(s.Files) > 0 && s.Files[len(s.Files)-1].Segment == number
}

// Add adds the newest file.
func (s *Set) Add(f File) {
	s.Files = append(s.Files, f)
	s.Total += f.Count
	s.Bytes += f.Bytes()
}

// Trim drops the oldest file repeatedly. It does so as long as the remaining files contain at least
// max receipts, or all receipts of the oldest file are older than limit. It always keeps the newest
// file. It returns the segment numbers of the dropped files.
func (s *Set) Trim(max uint64, limit int64) (dropped []uint64) {
	for len(s.Files) > 1 {
		oldest := s.Files[0]
		if s.Total-oldest.Count < max && oldest.Newest >= limit {
			break
		}
		dropped = append(dropped, oldest.Segment)
		s.Files = s.Files[1:]
		s.Total -= oldest.Count
		s.Bytes -= oldest.Bytes()
	}
	return dropped
}

// Load reads the header of a file. The caller closes the file, unless it is nil. Errors: those of the
// disk, ErrInvalid, *segment.VersionError.
func Load(fs fsys.FS, path string, number uint64) (f File, file fsys.File, err error) {
	if file, err = fs.Open(path); err != nil {
		return f, nil, err
	}
	size, err := file.Size()
	if err != nil {
		return f, file, err
	}
	_, n, err := segment.ParseHeader(file, path, magic)
	f = File{Segment: n[0], Count: n[1], Newest: int64(n[2])}
	if err == segment.ErrHeader || err == nil && (f.Segment != number || f.Count > uint64(size) || f.Bytes() != size) {
		err = ErrInvalid
	}
	return f, file, err
}

// Collect reads the IDs of the messages in a segment of this size, and returns their receipts. result
// returns the result of a message, see index.Catalog.Results.
func Collect(file fsys.File, number uint64, size int64, result func(seq uint64, movedHere bool) (index.Extra, bool)) (list []Receipt, err error) {
	scan := &segment.Scanner{Window: segment.Window{F: file, Limit: size, Chunk: 256 << 10}, Number: number}
	_, _, err = scan.Scan(segment.HeaderSize, true, func(_ int64, r *record.Record) bool {
		if r.Kind == record.KindMessage {
			if e, ok := result(r.Seq, r.Moved); ok {
				list = append(list, Receipt{r.MessageID, r.Seq, e.Result, e.At})
			}
		}
		return true
	}, func(int64, int64) {})
	return list, err
}

// Find returns the newest receipt for a message ID. It calls damaged if it finds a damaged receipt.
func (f File) Find(fs fsys.FS, dir string, id [16]byte, damaged func(off int64)) (found Receipt, ok bool, err error) {
	file, err := fs.Open(Name(dir, f.Segment))
	if err != nil {
		return found, false, err
	}
	defer file.Close()
	w := segment.Window{F: file, Limit: f.Bytes(), Chunk: segment.PageSize}
	want := Receipt{ID: id, Seq: record.MaxSequence}
	var r Receipt
	lo, hi := int64(0), int64(f.Count)
	for lo < hi { // find the last receipt that is not above want
		mid := (lo + hi) / 2
		if err = r.read(&w, mid); err != nil {
			break
		}
		if r.compare(&want) <= 0 {
			lo, found = mid+1, r
		} else {
			hi = mid
		}
	}
	if errors.Is(err, ErrInvalid) { // search all receipts
		damaged(segment.HeaderSize + (lo+hi)/2*Size)
		found, err = Receipt{}, nil
		for i := range int64(f.Count) {
			if r.read(&w, i) == nil && r.ID == id {
				found = r
			}
		}
	}
	if err != nil || found.Seq == 0 || found.ID != id {
		return Receipt{}, false, err
	}
	return found, true, nil
}

// Each calls yield for each receipt until yield returns false, and damaged for each damaged receipt.
func (f File) Each(fs fsys.FS, dir string, yield func(*Receipt) bool, damaged func(off int64)) error {
	file, err := fs.Open(Name(dir, f.Segment))
	if err != nil {
		return err
	}
	defer file.Close()
	w := segment.Window{F: file, Limit: f.Bytes(), Chunk: 256 << 10}
	var r Receipt
	for i := range int64(f.Count) {
		err := r.read(&w, i)
		switch {
		case err == ErrInvalid:
			damaged(segment.HeaderSize + i*Size)
		case err != nil:
			return err
		case !yield(&r):
			return nil
		}
	}
	return nil
}
