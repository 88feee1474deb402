package recovery

import (
	"github.com/mooring-mqtt/mooring/internal/fsys"
	"github.com/mooring-mqtt/mooring/persistence/internal/ledger"
	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

// Renewal is the reason why the next opening begins a new epoch.
type Renewal uint8

// The reasons, in order of precedence.
const (
	Continued   Renewal = iota // no new epoch, or there was no log
	CopiedFiles                // the newest segment is not the file that was created
	OtherHost                  // another machine wrote the log
	Damaged                    // damage after the last checkpoint: counters may be too low
	TailLost                   // a power failure may have removed the end of the log
	ClockSet                   // the epoch comes from a clock that was never set, and now it is set
)

// Copied reports whether the folder is a copy.
func (r Renewal) Copied() bool { return r == CopiedFiles || r == OtherHost }

// Renewal returns whether and why the next opening begins a new epoch. host is the present host,
// and now is the time in Unix milliseconds.
func (s *State) Renewal(host fsys.Host, now int64) Renewal {
	w := &s.Ledger.Writer
	switch {
	case s.last == nil && !s.Stale:
		return Continued
	case s.copied:
		return CopiedFiles
	case w.Machine != 0 && host.Machine != 0 && w.Machine != host.Machine:
		return OtherHost
	case s.Stale:
		return Damaged
	case !w.Known, w.Lossy && !w.Closed && (w.Boot == 0 || w.Boot != host.Boot):
		return TailLost
	case !ledger.ClockSet(int64(s.Ledger.Epoch)) && ledger.ClockSet(now):
		return ClockSet
	}
	return Continued
}

// Disown forgets the session of a copied log. The session belongs to the client that uses the
// original, and that client may have sent any message. records are the records that Carry returned.
func (s *State) Disown(records []byte) []byte {
	g := &s.Ledger
	g.Reset("")
	s.Catalog.Unrelease()
	g.Session = false
	s.anySent()
	return record.AppendReset(records, "")
}

// anySent records that any message may have been sent.
func (s *State) anySent() {
	g := &s.Ledger
	g.Sent = g.Numbers
	g.Sent[record.Normal] = g.Accepted()
}

// checkIdentity compares the newest segment in use with the file that was created.
func (s *State) checkIdentity() {
	if s.last == nil || s.last.header.File == 0 {
		return
	}
	s.copied = s.last.identity != 0 && s.last.identity != s.last.header.File
}
