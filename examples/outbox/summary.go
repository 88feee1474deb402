package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// most is the maximum number of lines for each kind of entry.
const most = 40

// summary prints the totals of the folder, its streams and its files.
func (t *tool) summary() (int, error) {
	in := t.in
	if in.Epoch == 0 && len(in.Segments) == 0 {
		fmt.Fprintf(t.out, "%s holds no log: %s, no segment\n", in.Dir, plural(len(in.Others), "file", "files"))
		return exitOK, nil
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "folder\t%s\n", in.Dir)
	t.inUse(w)
	// The number of an epoch is the time of its beginning in milliseconds, if the clock was set then.
	fmt.Fprintf(w, "store\tepoch %d, begun %s; opened %s\n", in.Epoch, t.moment(time.UnixMilli(int64(in.Epoch))), plural(in.Boot, "time", "times"))
	if !in.Clock.IsZero() {
		fmt.Fprintf(w, "clock\tat least %s\n", t.moment(in.Clock))
	}
	session := "none"
	if in.Session {
		session = "begun"
	}
	fmt.Fprintf(w, "session\t%s; last sent message: normal %d, high %d, urgent %d\n", session, in.Sent[persistence.Normal], in.Sent[persistence.High], in.Sent[persistence.Urgent])
	if n := len(in.SeenIDs); n > 0 {
		fmt.Fprintf(w, "inbound\t%s of incomplete QoS 2 exchanges: %s\n", plural(n, "packet identifier", "packet identifiers"), strings.Trim(fmt.Sprint(in.SeenIDs[:min(n, most)]), "[]"))
	}
	for _, path := range in.Others[:min(len(in.Others), most)] {
		fmt.Fprintf(w, "unknown\t%s\n", name(path))
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
		fmt.Fprintf(w, "in use\tby process %d: the output is a snapshot\n", in.PID)
	case in.InUse:
		fmt.Fprintf(w, "in use\tthe output is a snapshot\n")
	}
}

func (t *tool) health() string {
	s := t.in.Stats
	var parts []string
	if s.Corruptions > 0 {
		parts = append(parts, plural(s.Corruptions, "damaged place", "damaged places")+": see verify")
	}
	if n := len(t.in.Copies); n > 0 {
		parts = append(parts, plural(n, "copy of a damaged segment", "copies of damaged segments")+" kept when the log was opened")
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
		{"receipts", s.Receipts, false},
	} {
		if row.n > 0 || row.always {
			line(row.name, row.n)
		}
	}
	line("bytes of pending", size(s.PendingBytes))
	if s.Deferred > 0 {
		line("bytes of deferred", size(s.DeferredBytes))
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
			note = "  unused"
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
