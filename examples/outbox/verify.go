package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"

	"github.com/mooring-mqtt/mooring/persistence"
)

// verify prints the damaged places and the lost messages. inspect.Open has read every record and
// every receipt and has checked their checksums.
func (t *tool) verify() (int, error) {
	in, code := t.in, exitOK
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	t.inUse(w)
	read := int64(0)
	for _, s := range in.Segments {
		read += s.Size
	}
	for _, r := range in.Receipts {
		read += r.Size
	}
	fmt.Fprintf(w, "read\t%s, %s, %s\n", plural(len(in.Segments), "segment", "segments"), plural(len(in.Receipts), "receipts file", "receipts files"), size(read))
	if in.Stats.Corruptions > 0 {
		code = exitDamaged
	}
	t.damage(w, in.Corruptions)
	if more := in.Stats.Corruptions - uint64(len(in.Corruptions)); more > 0 {
		fmt.Fprintf(w, "damaged\tand %s\n", plural(more, "more place", "more places"))
	}
	t.losses(w)
	for _, s := range in.Segments {
		switch {
		case s.Torn && in.InUse:
			fmt.Fprintf(w, "end\t%s ends with an unfinished write, which may still be in progress\n", name(s.File))
		case s.Torn:
			fmt.Fprintf(w, "torn\t%s ends with an unfinished write; its messages were never accepted, so no message is lost\n", name(s.File))
		case s.Void:
			fmt.Fprintf(w, "unused\t%s: the client removes it when it opens the log\n", name(s.File))
		}
	}
	for _, path := range in.Copies {
		fmt.Fprintf(w, "copy\t%s: copy of a damaged segment, kept when the log was opened; remove it when you do not need it\n", name(path))
	}
	for _, path := range in.Others {
		fmt.Fprintf(w, "unknown\t%s: not a file of the store\n", name(path))
	}
	result := "nothing is damaged"
	if in.Epoch == 0 && len(in.Segments) == 0 {
		result = "there is no log here"
	}
	if code == exitDamaged {
		result = plural(in.Stats.Corruptions, "damaged place", "damaged places") + "; the readable records around the damage stay in use"
	}
	fmt.Fprintf(w, "result\t%s\n", result)
	fmt.Fprintf(w, "changed\tnothing\n")
	return code, w.Flush()
}

// damage prints the damaged places.
func (t *tool) damage(w io.Writer, list []persistence.Corruption) {
	for _, c := range list {
		what := fmt.Sprintf("%s at offset %d: %s", plural(c.Length, "byte", "bytes"), c.Offset, reason(c.Err))
		switch {
		case errors.Is(c.Err, fs.ErrNotExist):
			what = "the file is missing"
		case errors.Is(c.Err, io.ErrUnexpectedEOF):
			what = fmt.Sprintf("the file ends at offset %d, too early", c.Offset)
		}
		if c.Copy != "" {
			what += "; copy: " + name(c.Copy)
		}
		fmt.Fprintf(w, "damaged\t%s: %s\n", name(c.File), what)
	}
}

func reason(err error) string { return strings.TrimPrefix(err.Error(), "persistence: ") }

// losses prints the messages and the state that were lost because of damage.
func (t *tool) losses(w io.Writer) {
	in := t.in
	missing, list := uint64(0), []string{}
	for _, r := range in.Missing {
		missing += r.To - r.From + 1
		switch {
		case len(list) == most:
			list = append(list, "…")
		case len(list) < most && r.From == r.To:
			list = append(list, fmt.Sprint(r.From))
		case len(list) < most:
			list = append(list, fmt.Sprintf("%d-%d", r.From, r.To))
		}
	}
	if missing > 0 {
		fmt.Fprintf(w, "lost\t%s without a readable record: %s\n", plural(missing, "message", "messages"), strings.Join(list, ", "))
	}
	if n := in.Stats.Lost; n > 0 {
		fmt.Fprintf(w, "counted\t%s lost because of damage since the store was created\n", plural(n, "message", "messages"))
	}
	if in.Renewal != persistence.Continued && in.Epoch != 0 {
		fmt.Fprintf(w, "epoch\t%s; when the client opens it here, a new epoch begins, so that receivers do not treat new messages as duplicates\n", why(in.Renewal))
	}
}

// why describes the reason for a new epoch.
func why(r persistence.Renewal) string {
	switch r {
	case persistence.CopiedFiles:
		return "the folder is a copy, so its session is void"
	case persistence.OtherHost:
		return "another machine wrote it, so its session is void"
	case persistence.Damaged:
		return "stream counters may be lost"
	case persistence.TailLost:
		return "the log was not closed, and its last messages may be lost"
	}
	return "the clock was not set when the last epoch began"
}
