// Package recovery reads the folder of a log. It decides which segments are in use, and applies their
// records. docs/format.md argues why the log survives each kind of crash.
package recovery

import (
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Files in the folder of a log.
const (
	LockName    = "LOCK"
	ReserveName = "RESERVE" // a file of zeros that reserves disk space
)

// Config configures Read.
type Config struct {
	FS          fsys.FS
	Dir         string
	DeadLetters bool // dead letters are kept
	Receipts    bool // receipts are kept
	Report      func(Damage)
}

// Damage is a damaged place in a file.
type Damage struct {
	File   string
	Offset int64
	Length int64  // 0: the file is missing or too short
	Seq    uint64 // always 0
	Copy   string // empty: there is no copy
	Err    error
}

// State is the content of a folder.
type State struct {
	Ledger                 ledger.Ledger
	Catalog                index.Catalog // of the segments in use
	Receipts               receipts.Set
	Files                  []*File  // segments by number
	Garbage                []string // paths of files that are not in use, to be removed in this order
	Newest                 uint64   // the highest segment number in the folder
	Stale                  bool     // there is damage after the last checkpoint: counters may be too low
	TornTails, Corruptions uint64

	c      Config
	file   fsys.File // the one segment that is open
	of     *File     // the segment of file
	names  []string  // of the files in the folder
	waited time.Duration
	last   *File // the newest segment in use
	copied bool  // last is a copy of the file that was created
	copies int   // copies of damaged files in the folder
}

// File is a segment file.
type File struct {
	Number   uint64
	Size     int64 // bytes in use
	Bytes    int64 // bytes in the file
	Version  uint16
	Void     bool   // the segment is not in use
	Sealed   bool   // the next segment records Size; otherwise Size is the size of the file
	identity uint64 // of the file; 0: unknown

	unreadable []unread
	header     segment.Header
	unread     bool  // the header is damaged
	reported   bool  // damage was found
	fence      int64 // offset of the last fence; 0: there is none
	copy       string
}

// Read reads a folder. It reports damage to Config.Report and does not return it as an error. The
// caller closes the State. Errors: those of the file system, and *segment.VersionError if a newer
// release wrote the folder.
func Read(c Config) (*State, error) {
	s := &State{c: c}
	if err := s.read(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *State) read() error {
	names, err := s.c.FS.ReadDir(s.c.Dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	s.names = names
	if err := s.list(names); err != nil {
		return err
	}
	live, err := s.link()
	if err != nil {
		return err
	}
	s.Ledger.Next = 1
	s.Catalog.Load()
	for _, f := range live {
		if err := s.load(f); err != nil {
			return err
		}
		s.last = f
	}
	g := &s.Ledger
	s.Catalog.Loaded()
	g.Releases.Loaded(func(seq uint64) bool { return s.Catalog.Committed(seq).Released() })
	if g.Reconcile() > 0 && s.Corruptions == 0 {
		// The missing segment came before the oldest one, so no link refers to it.
		s.report(Damage{File: s.name(live[0].header.Prev.Number), Err: fs.ErrNotExist})
	}
	if s.Stale || s.last != nil && s.last.Version <= 1 { // unknown: any message may have been sent
		s.anySent()
	}
	s.checkIdentity()
	return s.loadReceipts(names)
}

func (s *State) name(number uint64) string { return segment.Name(s.c.Dir, number) }

// link returns the segments in use, oldest first. It follows the links from the newest segment.
func (s *State) link() ([]*File, error) {
	files, n := s.Files, len(s.Files)
	// A newest segment whose opening was not finished was never in use.
	for ; n > 0; n-- {
		f := files[n-1]
		prev, ok, err := s.opening(f)
		if err != nil {
			return nil, err
		}
		if ok || len(f.unreadable) > 0 {
			f.header.Prev = prev
			break
		}
		s.TornTails++
		if n == 1 && (f.Number > 1 || f.Bytes > maxFirstOpening) {
			// This is not the first opening of a new log, so an earlier one is lost.
			s.damage(f, 0, f.Bytes, segment.ErrHeader)
		}
		s.discard(f)
	}
	var live []*File
	for n > 0 {
		f := files[n-1]
		n--
		live = append(live, f)
		prev := f.header.Prev
		if f.unread && prev == (segment.Link{}) {
			var err error
			if prev, _, err = s.opening(f); err != nil {
				return nil, err
			}
			if prev == (segment.Link{}) {
				continue // the link is unknown: continue with the next older file
			}
		}
		for n > 0 && files[n-1].Number > prev.Number {
			n--
			s.discard(files[n])
		}
		if n == 0 {
			break
		}
		if older := files[n-1]; older.Number == prev.Number {
			older.Sealed = true
			if older.Size < prev.Size {
				s.reportIn(older, older.Size, 0, io.ErrUnexpectedEOF)
			}
			older.Size = min(older.Size, prev.Size)
		} else {
			s.report(Damage{File: s.name(prev.Number), Err: fs.ErrNotExist})
		}
	}
	slices.Reverse(live)
	return live, nil
}

// maxFirstOpening is the largest size of the header and the checkpoint of a new log.
const maxFirstOpening = 256

func (s *State) discard(f *File) {
	f.Void = true
	s.Garbage = append(s.Garbage, s.name(f.Number))
}

func (s *State) scanner(f *File) (*segment.Scanner, error) {
	file, err := s.open(f)
	if err != nil {
		return nil, err
	}
	return &segment.Scanner{Window: segment.Window{F: file, Limit: f.Size, Chunk: 256 << 10}, Number: f.Number}, nil
}

// opening returns the link of a segment, which is zero if unknown, and whether the opening was
// finished.
func (s *State) opening(f *File) (prev segment.Link, ok bool, err error) {
	scan, err := s.scanner(f)
	if err != nil {
		return prev, false, err
	}
	whole, seen := !f.unread, false
	prev = f.header.Prev // zero if the header is unread
	_, _, err = scan.Scan(segment.HeaderSize, false, func(_ int64, r *record.Record) bool {
		if seen = r.Kind == record.KindCheckpoint; seen {
			if _, p, err := ledger.DecodeCheckpoint(r.Body, r.Version1); err == nil && prev == (segment.Link{}) {
				prev = p
			}
		}
		return !seen
	}, func(int64, int64) { whole = false })
	if err != nil || seen && whole {
		return prev, err == nil, err
	}
	fenced, err := scan.Fenced(segment.HeaderSize)
	return prev, fenced, err
}

// load applies the records of one segment.
func (s *State) load(f *File) error {
	if f.unread {
		s.damage(f, 0, segment.HeaderSize, f.cause(0, segment.HeaderSize, segment.ErrHeader))
	}
	s.Ledger.Next = max(s.Ledger.Next, f.header.First)
	seg := &index.Segment{Number: f.Number, Index: index.Index{First: s.Ledger.Next, Keep: s.c.Receipts}}
	s.Catalog.Segments = append(s.Catalog.Segments, seg)
	scan, err := s.scanner(f)
	if err != nil {
		return err
	}
	a := applier{s: s, seg: seg, room: uint64(f.Bytes/record.MinMessage) + 1}
	if !f.unread || s.last != nil { // unknown for the oldest segment without its header
		scan.Most = s.Ledger.Next + a.room
	}
	sealed := f.Sealed
	if !sealed {
		if err := s.preview(f, s.file); err != nil {
			return err
		}
		sealed, scan.Limit = len(f.unreadable) > 0, f.Size
	}
	end, torn, err := scan.Scan(segment.HeaderSize, sealed, func(off int64, r *record.Record) bool {
		a.apply(off, r)
		if r.Fence {
			f.fence = off
		}
		return true
	}, func(off, length int64) { s.damage(f, off, length, f.cause(off, length, record.ErrInvalid)) })
	if err != nil {
		return err
	}
	for _, x := range f.unreadable {
		if !x.reported {
			s.damage(f, x.off, x.length, x.err)
		}
	}
	if torn {
		s.TornTails++
	}
	f.Size, seg.Size = end, end
	// The process that wrote the segment may have been killed before its fsync, so the records may
	// only be in the memory of the operating system.
	return s.file.Sync()
}

// Torn reports whether a file ends with an unfinished write.
func (s *State) Torn(f *File) (bool, error) {
	if f.Void { // if it is newer than all segments in use, its opening was not finished
		return s.last == nil || f.Number > s.last.Number, nil
	}
	if f.Sealed {
		return false, nil
	}
	scan, err := s.scanner(f)
	if err != nil {
		return false, err
	}
	scan.Limit = f.Bytes
	blank, err := scan.Blank(f.Size)
	return !blank, err
}

func (s *State) damage(f *File, off, length int64, err error) {
	s.Stale = true
	s.reportIn(f, off, length, err)
}

func (s *State) reportIn(f *File, off, length int64, err error) {
	if !f.reported {
		f.reported = true
		if file, err := s.open(f); err == nil {
			f.copy = s.keepCopy(file, s.name(f.Number))
		}
	}
	s.report(Damage{File: s.name(f.Number), Offset: off, Length: length, Copy: f.copy, Err: err})
}

func (s *State) report(d Damage) {
	s.Corruptions++
	s.c.Report(d)
}
