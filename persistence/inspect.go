package persistence

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// Inspection is what a log's folder holds, read without changing anything: what
// the next Open would find. See [Inspect].
//
// Its fields are fixed once Inspect has returned them. Its methods read the files
// again, one record at a time, and may be called by several goroutines at once.
type Inspection struct {
	Dir string
	// InUse says that a process has the log open, as far as this system tells:
	// what is here is then a moment of it, and a torn end may be a write that was
	// under way. PID is that process; 0: unknown.
	InUse bool
	PID   int

	Stats   Stats  // as after an opening; the counters of an opening are TornTails and Corruptions
	LastSeq uint64 // the highest sequence given to a message; 0: none yet
	Epoch   uint64 // 0: the folder holds no store
	// NewEpoch says that damage may have taken a stream's last number, so that the
	// next Open will renew the epoch.
	NewEpoch bool
	Boot     uint64             // how many times the log was opened
	Session  bool               // a session is known
	ClientID string             // its owner
	Clock    time.Time          // the latest time that is noted; zero: none is
	Sent     [Priorities]uint64 // Store.Sent
	SeenIDs  []uint16           // Store.SeenIDs
	Streams  []NamedStream      // in the order of registering

	Segments []SegmentFile  // oldest first
	Receipts []ReceiptsFile // oldest first
	Copies   []string       // paths of the copies that earlier openings kept of damaged segments
	Others   []string       // paths of files that are not the log's

	// Corruptions are the damaged places, the first 10,000 of them;
	// Stats.Corruptions counts all. Copy is set where an earlier opening kept one.
	Corruptions []Corruption
	// Missing are the sequences, within the segments in use, of which no message
	// and no outcome is left, ascending, the first 10,000 ranges of them.
	Missing []SeqRange

	o     Options
	files *snapshot
	catalog
	streams []stream
}

// NamedStream is one of the named sequences, see Store.Stream.
type NamedStream struct {
	Name string
	ID   uint32
	Last uint64
}

// SeqRange is the sequences From to To, both included.
type SeqRange struct{ From, To uint64 }

// SegmentFile is a segment of the log.
type SegmentFile struct {
	Number  uint64
	File    string // its path
	Version uint16 // of the format; 0: its header is unreadable
	Size    int64  // of the file, in bytes
	Used    int64  // of these, how many count
	// Void says that nothing in it counts: it was superseded, or its beginning was
	// never finished. The next Open removes it.
	Void bool
	// Torn says that it ends with an unfinished write, which was never accepted.
	Torn bool

	// The messages whose record here is the one that counts.
	Messages, Pending, Dead int
}

// ReceiptsFile holds the outcomes of the messages of a segment that is gone.
type ReceiptsFile struct {
	Segment uint64
	File    string // its path
	Size    int64  // in bytes
	Count   uint64
	Newest  time.Time // when the last of them ended
}

// Bounds on the lists of an Inspection, and on how often Inspect looks again at a
// folder whose files come and go.
const (
	maxInspected = 10_000
	maxLooks     = 20
)

// Inspect reads a log's folder, as [Open] would, and changes nothing. It opens no
// file for writing, takes no lock, creates and removes nothing; it needs no more
// than the right to read, so a medium mounted read-only will do, or a copy that a
// broken device sent in. Of o, it heeds FS and MaxDeadLetters.
//
// Damage is no failure: what is readable around it is there, and Corruptions says
// what is not. A process may have the log open and go on: Inspect shows one moment
// of it, which holds everything that was accepted before the call.
//
// Memory: 25 to 50 bytes for each message in the segments. The caller must Close
// the Inspection; it keeps the segments open, so that Messages finds them when a
// process that is at work removes them. Some systems (Windows) remove no open
// files; there, such a process gets rid of them after Close.
//
// Errors: *FolderError, *VersionError when a newer release wrote the folder,
// *OptionError.
func Inspect(dir string, o Options) (*Inspection, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	files, err := look(o.FS, dir)
	if err != nil {
		return nil, inspectError(dir, err)
	}
	in := &Inspection{Dir: dir, files: files, o: o}
	if o.FS == fsys.OS {
		in.InUse, in.PID = fsys.Holder(filepath.Join(dir, lockName))
	}
	if err := in.read(); err != nil {
		in.Close()
		return nil, inspectError(dir, err)
	}
	return in, nil
}

// Close lets go of the files. Messages and EachReceipt return [ErrClosed] then.
func (in *Inspection) Close() error { return in.files.close() }

// look takes a snapshot, and another one when a file was removed meanwhile.
func look(from fsys.FS, dir string) (files *snapshot, err error) {
	for range maxLooks {
		if files, err = takeSnapshot(from, dir); err != errRemoved {
			break
		}
	}
	return files, err
}

// read runs the log's own recovery on the snapshot.
func (in *Inspection) read() error {
	l := &Log{dir: in.Dir, o: Options{
		FS: in.files, Retention: Retention{MaxDeadLetters: in.o.Retention.MaxDeadLetters, MaxReceipts: 1}, OnCorruption: in.note, // so that outcomes are kept
	}.withDefaults()}
	r := recovery{log: l}
	defer r.close()
	if err := r.run(); err != nil {
		return err
	}
	in.catalog, l.catalog = r.catalog, r.catalog
	if err := l.loadReceipts(); err != nil {
		return err
	}
	in.setLedger(&r.ledger)
	in.NewEpoch = r.stale
	if err := in.setSegments(&r); err != nil {
		return err
	}
	if err := in.setReceipts(l); err != nil {
		return err
	}
	in.setNames()
	in.survey(r.ledger.next)
	in.Stats.Segments, in.Stats.Receipts = len(r.segments), l.receipts.total
	in.Stats.TornTails, in.Stats.Corruptions = l.tornTails.Load(), l.corruptions.Load()
	return nil
}

func (in *Inspection) note(c Corruption) {
	if len(in.Corruptions) < maxInspected {
		in.Corruptions = append(in.Corruptions, c)
	}
}

func (in *Inspection) setLedger(g *ledger) {
	in.Stats, in.LastSeq = g.stats(), g.next-1
	in.Epoch, in.Boot, in.Session, in.ClientID = g.epoch, g.boot, g.session, g.owner
	in.Sent, in.SeenIDs, in.streams = g.sent, g.seen.list(), g.streams
	if g.latest > 0 {
		in.Clock = fromMillis(g.latest)
	}
	for i, s := range g.streams {
		in.Streams = append(in.Streams, NamedStream{Name: s.name, ID: uint32(i + 1), Last: s.last})
	}
}

func (in *Inspection) setSegments(r *recovery) error {
	for _, f := range r.files {
		s := SegmentFile{Number: f.number, File: segmentName(in.Dir, f.number), Size: f.full}
		if !f.damaged {
			s.Version = f.header.version
		}
		i := slices.IndexFunc(r.segments, func(s *segment) bool { return s.number == f.number })
		switch {
		case i < 0: // newer than all that count: its beginning was never finished
			s.Void, s.Torn = true, r.last == nil || f.number > r.last.number
		default:
			s.Used = r.segments[i].size
			in.Stats.DiskBytes += s.Used
			if !f.sealed {
				blank, err := r.scanner(f).blank(s.Used)
				if err != nil {
					return err
				}
				s.Torn = !blank
			}
		}
		in.Segments = append(in.Segments, s)
	}
	return nil
}

// setNames sorts out what else is in the folder.
func (in *Inspection) setNames() {
	for _, name := range in.files.names {
		path := filepath.Join(in.Dir, name)
		base, isCopy := strings.CutSuffix(name, corruptSuffix)
		switch {
		case isCopy && isLogFile(base):
			in.Copies = append(in.Copies, path)
		case name != lockName && !isLogFile(name):
			in.Others = append(in.Others, path)
		}
	}
}

// survey counts the messages of each segment, and finds what is missing.
func (in *Inspection) survey(next uint64) {
	if len(in.segments) == 0 {
		return
	}
	files := make(map[uint64]*SegmentFile, len(in.Segments))
	for i := range in.Segments {
		files[in.Segments[i].Number] = &in.Segments[i]
	}
	expect := in.segments[0].first // what was before is done with
	in.walk(func(seq uint64, r ref, s *segment) bool {
		in.miss(expect, seq)
		if r.state() == stateLost {
			in.miss(seq, seq+1)
		} else {
			f := files[s.number]
			f.Messages++
			switch {
			case r.alive():
				f.Pending++
			case r.state() == stateDead:
				f.Dead++
			}
		}
		expect = max(expect, seq+1)
		return true
	})
	in.miss(expect, next)
}

// miss notes that the sequences from one up to another, without it, are missing.
func (in *Inspection) miss(from, to uint64) {
	n := len(in.Missing)
	switch {
	case from >= to:
	case n > 0 && in.Missing[n-1].To+1 == from:
		in.Missing[n-1].To = to - 1
	case n < maxInspected:
		in.Missing = append(in.Missing, SeqRange{From: from, To: to - 1})
	}
}

// inspectError says what to do about the reasons that have a remedy.
func inspectError(dir string, err error) error {
	var version *VersionError
	if errors.As(err, &version) {
		return err
	}
	fix := "check the disk and the system's log, then inspect it again"
	switch {
	case errors.Is(err, errRemoved):
		fix = "a process removes files faster than they can be read: stop it, or try again"
	case errors.Is(err, fs.ErrNotExist):
		fix = "check the path: an inspection creates nothing"
	case errors.Is(err, syscall.ENOTDIR):
		fix = "it is a file: name the folder that holds the log"
	case errors.Is(err, fs.ErrPermission):
		fix = "let this user read it"
	}
	return &FolderError{Dir: dir, Fix: fix, Err: err}
}
