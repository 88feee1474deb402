// Package inspect reads the folder of a persistence.Log without changing it. It works while a
// process has the log open. persistence.Open is different: it repairs damage, and it fails while
// another process has the log open.
//
//	f, err := inspect.Open(dir, persistence.Options{})
//	if err != nil {
//		return err
//	}
//	defer f.Close()
//	fmt.Println(f.Stats.Pending, "pending,", len(f.Corruptions), "damaged places")
//	err = f.Messages(inspect.Pending, func(m *inspect.Message) bool {
//		fmt.Println(m.Seq, m.Accepted, len(m.Packet))
//		return true
//	})
//
// A [Folder] shows the state of the log at the time of [Open]. docs/format.md describes the files.
package inspect

import (
	"cmp"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/internal/index"
	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/receipts"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/recovery"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

// Folder describes the content of the folder of a log. Its fields do not change after Open. Its
// methods read the files again, one record at a time. They are safe for concurrent use.
type Folder struct {
	Dir string
	// InUse reports whether a process has the log open, if the system can detect this. The write of
	// a Torn segment may then be in progress. PID is the ID of that process, or 0 if it is unknown.
	InUse bool
	PID   int

	// Stats contains the counters that the log would have directly after an opening.
	Stats   persistence.Stats
	LastSeq uint64 // the highest sequence assigned to a message; 0 if no message was accepted
	Epoch   uint64 // the epoch of the sequence numbers; 0 if the folder contains no log
	// Renewal is the reason why the next opening on this host will begin a new epoch. Possible
	// reasons are a copied folder, damage, and a log that was not closed and may have lost its end.
	// For a folder in use, Renewal is the reason that would apply if the process were killed now.
	Renewal  persistence.Renewal
	Boot     uint64                         // how many times the log was opened
	Session  bool                           // a session was begun with this log
	ClientID string                         // the ClientID of that session; empty if unknown
	Clock    time.Time                      // the latest time recorded in the log; zero if no time was recorded
	Sent     [persistence.Priorities]uint64 // the sent watermark of each priority
	SeenIDs  []uint16                       // packet identifiers of inbound messages that were handled
	Streams  []Stream                       // named sequences, in the order of registration

	Segments []Segment  // segments, oldest first
	Receipts []Receipts // receipts files, oldest first
	Copies   []string   // paths of the copies of damaged files
	Others   []string   // paths of files that do not belong to the log

	// Corruptions lists the first 10,000 damaged places. Stats.Corruptions counts all of them. The
	// field Copy of a Corruption is set if an earlier opening kept a copy of the file.
	Corruptions []persistence.Corruption
	// Missing lists the first 10,000 ranges of missing sequences, in ascending order. A sequence is
	// missing if its segment contains neither the message nor the result of the message.
	Missing []Range

	files     *snapshot
	catalog   index.Catalog
	deferrals *ledger.Deferrals
}

// Stream is a named sequence.
type Stream struct {
	Name string
	ID   uint32
	Last uint64
}

// Range is a range of sequences. It includes both From and To.
type Range struct{ From, To uint64 }

// Segment describes a segment file of the log.
type Segment struct {
	Number  uint64
	File    string // path of the file
	Version uint16 // format version; 0 if the header is damaged
	Size    int64  // size of the file, in bytes
	Used    int64  // bytes of the file that are in use
	// Void reports that the log uses no part of the segment. The next opening removes the segment.
	Void bool
	// Torn reports that the segment ends with an unfinished write, which contains no accepted message.
	Torn bool

	// Messages, Pending and DeadLetters count messages, except those moved to a newer segment.
	Messages, Pending, DeadLetters int
}

// Receipts is a file that contains the results of the messages of a removed segment.
type Receipts struct {
	Segment uint64
	File    string // path of the file
	Size    int64  // in bytes
	Count   uint64
	Newest  time.Time // time of the newest result in the file
}

// maxListed bounds the lists of a Folder.
const maxListed = 10_000

// Open reads the folder of a log without changing it. Pass the same options as to persistence.Open.
// Open opens no file for writing and takes no lock.
//
// Damage is not an error. Open lists it in Corruptions, and uses all readable data. A process may
// have the log open and continue to use it. The Folder then shows one moment, and includes every
// message that was accepted before the call.
//
// Open needs 25 to 50 bytes of memory for each message in the segments. The caller must call Close
// on the Folder, which keeps up to 8 files open. On Windows, no process can remove these files
// before Close.
//
// Open returns *FolderError, *VersionError and *OptionError of package persistence.
func Open(dir string, o persistence.Options) (*Folder, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.FS = cmp.Or(o.FS, fsys.OS)
	f, err := open(dir, &o)
	for range maxLooks {
		if !errors.Is(err, errRemoved) {
			break
		}
		f, err = open(dir, &o)
	}
	if err != nil {
		return nil, folderError(dir, err)
	}
	return f, nil
}

// open takes a snapshot and reads it.
func open(dir string, o *persistence.Options) (*Folder, error) {
	files, err := takeSnapshot(o.FS, dir)
	if err != nil {
		return nil, err
	}
	f := &Folder{Dir: dir, files: files}
	if o.FS == fsys.OS {
		f.InUse, f.PID = fsys.Holder(filepath.Join(dir, recovery.LockName))
	}
	if err := f.read(o.FS, o.Retention.MaxDeadLetters >= 0); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Close closes the files. After Close, the methods of f return [persistence.ErrClosed].
func (f *Folder) Close() error { return f.files.close() }

// read runs the recovery of the log on the snapshot.
func (f *Folder) read(fs fsys.FS, deadLetters bool) error {
	s, err := recovery.Read(recovery.Config{FS: f.files, Dir: f.Dir, DeadLetters: deadLetters, Receipts: true, Report: f.note})
	if err != nil {
		return err
	}
	defer s.Close()
	f.catalog, f.Renewal = s.Catalog, persistence.Renewal(s.Renewal(fsys.HostOf(fs), time.Now().UnixMilli()))
	f.setLedger(&s.Ledger)
	if err := cmp.Or(f.setSegments(s), f.setReceipts(s)); err != nil {
		return err
	}
	f.setNames()
	f.survey(s.Ledger.Next)
	f.Stats.Segments, f.Stats.Receipts = len(s.Catalog.Segments), s.Receipts.Total
	f.Stats.TornTails += s.TornTails
	return nil
}

func (f *Folder) note(d recovery.Damage) {
	f.Stats.Corruptions++
	if len(f.Corruptions) < maxListed {
		f.Corruptions = append(f.Corruptions, persistence.Corruption(d))
	}
}

func (f *Folder) setLedger(g *ledger.Ledger) {
	s := &f.Stats
	s.Accepted, s.Pending, s.PendingBytes = g.Accepted(), uint64(g.Pending), g.PendingBytes
	for k, n := range g.Totals {
		s.Ended(persistence.ResultKind(k), n)
	}
	s.Lost = g.Lost
	s.DeadLetters = uint64(len(g.DeadLetters.List))
	f.deferrals, s.Deferred, s.DeferredBytes = &g.Deferrals, uint64(g.Deferrals.Len()), g.Deferrals.Bytes
	for p, n := range g.PendingOf {
		s.PendingOf[p], s.DeferredOf[p] = uint64(n), uint64(g.Deferrals.Of[p])
	}
	f.LastSeq, f.Epoch, f.Boot, f.Session, f.ClientID = g.Accepted(), g.Epoch, g.Boot, g.Session, g.Owner
	f.Sent, f.SeenIDs = g.Sent, g.Seen.List()
	if g.Latest > 0 {
		f.Clock = record.Time(g.Latest)
	}
	for i, st := range g.Streams {
		f.Streams = append(f.Streams, Stream{Name: st.Name, ID: uint32(i + 1), Last: st.Last})
	}
}

func (f *Folder) setSegments(s *recovery.State) error {
	for _, x := range s.Files {
		seg := Segment{Number: x.Number, File: segment.Name(f.Dir, x.Number), Version: x.Version, Size: x.Bytes, Void: x.Void}
		if !x.Void {
			seg.Used = x.Size
			f.Stats.DiskBytes += x.Size
		}
		var err error
		if seg.Torn, err = s.Torn(x); err != nil {
			return err
		}
		f.Segments = append(f.Segments, seg)
	}
	return nil
}

// setReceipts lists the receipts files. Unlike an opening, it reads each receipt, to find damage.
func (f *Folder) setReceipts(s *recovery.State) error {
	for _, x := range s.Receipts.Files {
		r := Receipts{Segment: x.Segment, File: receipts.Name(f.Dir, x.Segment), Size: x.Bytes(), Count: x.Count, Newest: record.Time(x.Newest)}
		f.Receipts = append(f.Receipts, r)
		err := x.Each(f.files, f.Dir, func(*receipts.Receipt) bool { return true }, func(off int64) {
			f.note(recovery.Damage{File: r.File, Offset: off, Length: receipts.Size, Err: receipts.ErrInvalid})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// setNames lists the other files in the folder.
func (f *Folder) setNames() {
	for _, name := range f.files.names {
		path := filepath.Join(f.Dir, name)
		base, isCopy := strings.CutSuffix(name, recovery.CopySuffix)
		switch {
		case isCopy && recovery.IsLogFile(base):
			f.Copies = append(f.Copies, path)
		case name != recovery.LockName && name != recovery.ReserveName && !recovery.IsLogFile(name):
			f.Others = append(f.Others, path)
		}
	}
}

// survey counts the messages of each segment and finds the missing ones.
func (f *Folder) survey(next uint64) {
	if len(f.catalog.Segments) == 0 {
		return
	}
	files := make(map[uint64]*Segment, len(f.Segments))
	for i := range f.Segments {
		files[f.Segments[i].Number] = &f.Segments[i]
	}
	expect := f.catalog.Segments[0].First // all messages before it have ended
	for seq, m := range f.catalog.All {
		f.miss(expect, seq)
		if m.State() == index.Lost {
			f.miss(seq, seq+1)
		} else {
			seg := files[m.Segment.Number]
			seg.Messages++
			switch {
			case m.Alive():
				seg.Pending++
			case m.State() == index.Dead:
				seg.DeadLetters++
			}
		}
		expect = max(expect, seq+1)
	}
	f.miss(expect, next)
}

// miss records that a range of sequences is missing. It begins with from and ends before to.
func (f *Folder) miss(from, to uint64) {
	n := len(f.Missing)
	switch {
	case from >= to:
	case n > 0 && f.Missing[n-1].To+1 == from:
		f.Missing[n-1].To = to - 1
	case n < maxListed:
		f.Missing = append(f.Missing, Range{From: from, To: to - 1})
	}
}

// folderError converts an error to one that contains advice.
func folderError(dir string, err error) error {
	var version *segment.VersionError
	if errors.As(err, &version) {
		return &persistence.VersionError{File: version.File, Version: version.Version}
	}
	fix := "check the disk and the log of the operating system, then inspect the folder again"
	switch {
	case errors.Is(err, errRemoved):
		fix = "stop the process that removes files from the folder, or try again"
	case errors.Is(err, fs.ErrNotExist):
		fix = "check the path; inspect does not create folders"
	case errors.Is(err, syscall.ENOTDIR):
		fix = "pass the folder that contains the log, not a file"
	case errors.Is(err, fs.ErrPermission):
		fix = "give this user read permission"
	}
	return &persistence.FolderError{Dir: dir, Fix: fix, Err: err}
}
