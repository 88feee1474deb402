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

// recovery reads a folder: which segments count, and what their records say.
type recovery struct {
	log     *Log
	files   []*found // ascending; open until close
	ledger  ledger
	catalog          // of the segments that count
	oldest  *found   // the oldest of them
	last    *found   // the newest of them
	void    []string // paths of files that do not count
	newest  uint64   // the highest number in the folder
	stale   bool     // damage since the last checkpoint: counters may be behind
}

// found is a segment file.
type found struct {
	number  uint64
	file    fsys.File
	size    int64 // bytes that count
	full    int64 // bytes there are
	header  header
	damaged bool   // the header is unreadable
	sealed  bool   // size is what the next segment says; else what the file has
	broken  bool   // damage was found
	fence   int64  // the last one; 0: none
	copy    string // of the damaged segment
}

// run fails only when the folder cannot be read or is too new. Damage is reported.
func (r *recovery) run() error {
	if err := r.list(); err != nil {
		return err
	}
	live, err := r.link()
	if err != nil {
		return err
	}
	r.ledger.next = 1
	r.catalog.load()
	for i, f := range live {
		if err := r.load(f, i == 0); err != nil {
			return err
		}
		if r.last = f; i == 0 {
			r.oldest = f
		}
	}
	r.catalog.loaded()
	r.ledger.releases.loaded(func(seq uint64) bool {
		m := r.catalog.find(seq)
		return m.ok() && m.state() == stateReleased
	})
	r.reconcile()
	r.distrustMarks()
	return nil
}

// distrustMarks takes every message for one that may have been sent when what
// the sent watermarks say is not known: after damage, and in a log of format version 1.
func (r *recovery) distrustMarks() {
	g := &r.ledger
	if !r.stale && (r.last == nil || r.last.header.version > 1) {
		return
	}
	g.sent = g.numbers
	g.sent[Normal] = g.next - 1
}

func (r *recovery) close() {
	for _, f := range r.files {
		f.file.Close()
	}
	r.files = nil
}

// list opens the segment files.
func (r *recovery) list() error {
	l := r.log
	names, err := l.o.FS.ReadDir(l.dir)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix+corruptSuffix) || strings.HasSuffix(name, receiptSuffix+corruptSuffix) {
			l.copies++
		}
		number := parseSegmentName(name)
		if number == 0 {
			continue // not ours
		}
		r.newest = number
		file, err := l.o.FS.Open(filepath.Join(l.dir, name))
		if err != nil {
			return err
		}
		f := &found{number: number, file: file}
		r.files = append(r.files, f)
		if err := r.readHeader(f); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovery) readHeader(f *found) (err error) {
	if f.size, err = f.file.Size(); err != nil {
		return err
	}
	f.full = f.size
	buf := make([]byte, headerSize)
	n, err := f.file.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return err
	}
	f.header, err = parseHeader(buf[:n])
	var version *VersionError
	if errors.As(err, &version) {
		version.File = segmentName(r.log.dir, f.number)
		return version
	}
	f.damaged = err != nil || f.header.number != f.number
	if f.damaged {
		f.header = header{} // a segment under another's name says nothing either
	}
	if r.ledger.epoch == 0 {
		r.ledger.epoch = f.header.epoch
	}
	return nil
}

// link goes from the newest segment back along the links and returns the
// segments that count, oldest first.
func (r *recovery) link() ([]*found, error) {
	files, n := r.files, len(r.files)
	// A newest segment whose opening was not finished never counted.
	for ; n > 0; n-- {
		prev, ok, err := r.opening(files[n-1])
		if err != nil {
			return nil, err
		}
		if ok {
			files[n-1].header.prev = prev
			break
		}
		r.log.tornTails.Add(1)
		if f := files[n-1]; n == 1 && (f.number > 1 || f.full > maxFirstOpening) {
			// Not the first opening of a new log: there was one, and it is gone.
			r.damage(f, 0, f.full, errHeader)
		}
		r.discard(files[n-1])
	}
	var live []*found
	for n > 0 {
		f := files[n-1]
		n--
		live = append(live, f)
		prev := f.header.prev
		if f.damaged && prev == (link{}) {
			var err error
			if prev, _, err = r.opening(f); err != nil {
				return nil, err
			}
			if prev == (link{}) {
				continue // unknown: go on with the next older file, as far as it is readable
			}
		}
		for n > 0 && files[n-1].number > prev.number {
			n--
			r.discard(files[n])
		}
		if n == 0 {
			break
		}
		if older := files[n-1]; older.number == prev.number {
			older.sealed = true
			if older.size < prev.size {
				r.report(older, older.size, 0, io.ErrUnexpectedEOF)
			}
			older.size = min(older.size, prev.size)
		} else {
			missing := segmentName(r.log.dir, prev.number)
			r.log.report(Corruption{File: missing, Err: fs.ErrNotExist})
		}
	}
	slices.Reverse(live)
	return live, nil
}

func (r *recovery) discard(f *found) {
	r.void = append(r.void, segmentName(r.log.dir, f.number))
}

func (r *recovery) scanner(f *found) *scanner {
	return &scanner{window: window{f: f.file, limit: f.size, chunk: 256 << 10}, number: f.number}
}

// opening returns a segment's link, and whether its opening was finished. The
// link is zero when it is unreadable.
func (r *recovery) opening(f *found) (prev link, ok bool, err error) {
	s, whole := r.scanner(f), !f.damaged
	if whole {
		prev = f.header.prev
	}
	seen := false
	_, _, err = s.scan(headerSize, false, func(_ int64, rec *record) bool {
		if rec.kind == kindCheckpoint || rec.kind == kindCheckpoint1 {
			seen = true
			if _, p, err := decodeCheckpoint(rec.kind, rec.body); err == nil && prev == (link{}) {
				prev = p
			}
		}
		return !seen
	}, func(int64, int64) { whole = false })
	if err != nil || (seen && whole) {
		return prev, err == nil, err
	}
	fenced, err := s.fenced(headerSize)
	return prev, fenced, err
}

// load applies the records of one segment.
func (r *recovery) load(f *found, oldest bool) error {
	s := &segment{number: f.number, index: index{keep: r.log.o.Retention.MaxReceipts > 0}}
	first := f.header.first
	if f.damaged {
		first = r.ledger.next
		r.damage(f, 0, headerSize, errHeader)
	}
	if oldest {
		r.ledger.next = first
	}
	r.ledger.next = max(r.ledger.next, first)
	s.first = r.ledger.next
	r.segments = append(r.segments, s)

	scan := r.scanner(f)
	// As many messages may be missing as fit in, no more.
	room := uint64(f.full/minMessage) + 1
	if !(f.damaged && oldest) {
		scan.most = r.ledger.next + room
	}
	end, torn, err := scan.scan(headerSize, f.sealed, func(off int64, rec *record) bool {
		r.apply(s, off, rec, room)
		if rec.fence {
			f.fence = off
		}
		return true
	}, func(off, length int64) { r.damage(f, off, length, errRecord) })
	if err != nil {
		return err
	}
	if torn {
		r.log.tornTails.Add(1)
	}
	s.size = end
	// The process that wrote it may have been killed before its fsync, and what
	// was read may be in the system's memory only.
	return f.file.Sync()
}

func (r *recovery) damage(f *found, off, length int64, err error) {
	r.stale = true
	r.report(f, off, length, err)
}

func (r *recovery) report(f *found, off, length int64, err error) {
	if !f.broken {
		f.broken = true
		f.copy = r.log.keepCopy(f.file, segmentName(r.log.dir, f.number))
	}
	r.log.report(Corruption{File: segmentName(r.log.dir, f.number), Offset: off, Length: length, Copy: f.copy, Err: err})
}
