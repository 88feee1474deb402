package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// most is how many lines of one kind summary prints.
const most = 40

// summary prints what the folder holds.
func (t *tool) summary() (int, error) {
	in := t.in
	if in.Epoch == 0 && len(in.Segments) == 0 {
		fmt.Fprintf(t.out, "%s holds no log: none of its %s is a segment\n", in.Dir, plural(len(in.Others), "file", "files"))
		return exitOK, nil
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "folder\t%s\n", in.Dir)
	t.inUse(w)
	// An epoch is the time at which it began, unless the clock was not set.
	fmt.Fprintf(w, "store\tepoch %d: begun %s; opened %s\n", in.Epoch, t.moment(time.UnixMilli(int64(in.Epoch))), plural(in.Boot, "time", "times"))
	if !in.Clock.IsZero() {
		fmt.Fprintf(w, "clock\t%s at least\n", t.moment(in.Clock))
	}
	session := "none was recorded"
	if in.Session {
		session = "begun"
	}
	fmt.Fprintf(w, "session\t%s; sent up to %d, high %d, urgent %d\n", session, in.Sent[persistence.Normal], in.Sent[persistence.High], in.Sent[persistence.Urgent])
	if n := len(in.SeenIDs); n > 0 {
		fmt.Fprintf(w, "inbound\t%s of QoS 2 seen, not cleared: %s\n", plural(n, "packet identifier", "packet identifiers"), strings.Trim(fmt.Sprint(in.SeenIDs[:min(n, most)]), "[]"))
	}
	for _, path := range in.Others[:min(len(in.Others), most)] {
		fmt.Fprintf(w, "not ours\t%s\n", name(path))
	}
	fmt.Fprintf(w, "damage\t%s\n", t.health())
	if err := w.Flush(); err != nil {
		return exitFailed, err
	}
	t.messages()
	t.streams()
	t.segments()
	return exitOK, nil
}

func (t *tool) inUse(w io.Writer) {
	switch in := t.in; {
	case in.InUse && in.PID != 0:
		fmt.Fprintf(w, "in use\tby process %d: this is a moment of it\n", in.PID)
	case in.InUse:
		fmt.Fprintf(w, "in use\tthis is a moment of it\n")
	}
}

func (t *tool) health() string {
	s := t.in.Stats
	var parts []string
	if s.Corruptions > 0 {
		parts = append(parts, plural(s.Corruptions, "damaged place", "damaged places")+": see verify")
	}
	if n := len(t.in.Copies); n > 0 {
		parts = append(parts, plural(n, "copy of a damaged segment", "copies of damaged segments")+" from earlier openings")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, "; ")
}

func (t *tool) messages() {
	s := t.in.Stats
	line := func(name string, value any) { fmt.Fprintf(t.out, "%-24s  %12v\n", name, value) }
	fmt.Fprintln(t.out)
	line("MESSAGES", "")
	for _, row := range []struct {
		name   string
		n      uint64
		always bool
	}{
		{"accepted", s.Accepted, true},
		{"pending", s.Pending, true}, {"  deferred", s.Deferred, false}, {"acked", s.Acked, true}, {"refused", s.Refused, false}, {"expired", s.Expired, false},
		{"dropped", s.Dropped, false}, {"  lost to damage", s.Lost, false},
		{"dead-lettered", s.DeadLettered, false}, {"  kept", s.DeadLetters, false},
		{"receipts of gone ones", s.Receipts, false},
	} {
		if row.n > 0 || row.always {
			line(row.name, row.n)
		}
	}
	line("packets of pending ones", size(s.PendingBytes))
	if s.Deferred > 0 {
		line("packets of deferred ones", size(s.DeferredBytes))
	}
}

func (t *tool) streams() {
	n := len(t.in.Streams)
	if n == 0 {
		return
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nSTREAM\tLAST NUMBER")
	for _, s := range t.in.Streams[:min(n, most)] {
		fmt.Fprintf(w, "%s\t%d\n", safe(s.Name), s.Last)
	}
	w.Flush()
	t.more(n)
}

func (t *tool) segments() {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nSEGMENT\tFORMAT\tSIZE\tMESSAGES\tPENDING\tDEAD\t")
	n := len(t.in.Segments)
	for _, s := range t.in.Segments[max(0, n-most):] {
		note := ""
		switch {
		case s.Void:
			note = "  does not count"
		case s.Torn:
			note = "  ends with an unfinished write"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\t%s\n", name(s.File), s.Version, size(s.Size), s.Messages, s.Pending, s.DeadLetters, note)
	}
	for _, r := range t.in.Receipts[max(0, len(t.in.Receipts)-most):] {
		fmt.Fprintf(w, "%s\t\t%s\t%d\t\t\t  receipts\n", name(r.File), size(r.Size), r.Count)
	}
	w.Flush()
	t.more(n)
	t.more(len(t.in.Receipts))
}

func (t *tool) more(n int) {
	if n > most {
		fmt.Fprintf(t.out, "… and %d more\n", n-most)
	}
}
