package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// show prints the messages with a sequence number or a message ID, with all details.
func (t *tool) show() (int, error) {
	if len(t.args) != 1 {
		return exitFailed, fmt.Errorf("show takes one argument: a sequence number or a message ID, as list shows them")
	}
	if id, err := hex.DecodeString(strings.ReplaceAll(t.args[0], "-", "")); err == nil && len(id) == 16 {
		return t.showID([16]byte(id))
	}
	seq, err := strconv.ParseUint(t.args[0], 10, 64)
	if err != nil {
		return exitFailed, fmt.Errorf("%q is neither a sequence number nor a message ID: use one that list shows", t.args[0])
	}
	return t.showSeq(seq)
}

func (t *tool) showSeq(seq uint64) (int, error) {
	var stored inspect.Message
	ok, err := t.in.Message(seq, &stored)
	switch {
	case err != nil:
		return exitFailed, err
	case ok:
		return exitOK, t.print(&stored)
	case seq == 0 || seq > t.in.LastSeq:
		return exitFailed, fmt.Errorf("message %d does not exist: the last one is %d", seq, t.in.LastSeq)
	}
	for _, r := range t.in.Missing {
		if seq >= r.From && seq <= r.To {
			return exitFailed, fmt.Errorf("message %d was lost because its segment is damaged: see verify", seq)
		}
	}
	return exitFailed, fmt.Errorf("message %d is done, and its segment was removed", seq)
}

func (t *tool) showID(id [16]byte) (int, error) {
	found := 0
	var failed error
	err := t.in.Messages(inspect.All, func(m *inspect.Message) bool {
		if m.ID != id {
			return true
		}
		if found++; found > 1 {
			fmt.Fprintln(t.out)
		}
		failed = t.print(m)
		return failed == nil
	})
	if err != nil || failed != nil || found > 0 {
		if err == nil {
			err = failed
		}
		return exitOK, err
	}
	err = t.in.EachReceipt(func(of [16]byte, r persistence.Receipt) bool {
		if of == id {
			found++
			fmt.Fprintf(t.out, "message %d: %s with reason 0x%02x at %s; the message itself was removed\n", r.Seq, r.Result.Kind, r.Result.Reason, t.moment(r.At))
		}
		return true
	})
	if err == nil && found == 0 {
		err = fmt.Errorf("no message with the ID %s: it never existed, or it is done and its segment was removed", uuid(id))
	}
	return exitOK, err
}

// shown is the number of bytes of a payload that are printed.
const shown = 4 << 10

func (t *tool) print(stored *inspect.Message) error {
	m := message{Message: stored}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	line("sequence", "%d", m.Seq)
	line("state", "%s", t.fate(&m))
	if !m.known() {
		line("record", "damaged: only its outcome is known")
		return w.Flush()
	}
	line("message ID", "%s", orDash(uuid(m.ID)))
	line("accepted", "%s", t.moment(m.Accepted))
	if m.Expires.IsZero() {
		line("expires", "never")
	} else {
		line("expires", "%s", t.moment(m.Expires))
	}
	if d := m.Deferral; m.deferred() {
		line("deferred", "%s", t.moment(d.Since))
		line("resent", "%s at the earliest", t.moment(d.Until))
		why := "it waits for an earlier message of its topic"
		if d.Attempts > 0 {
			why = fmt.Sprintf("attempt %d was refused, reason code 0x%02x", d.Attempts, d.Code)
		}
		if d.Alone {
			why = fmt.Sprintf("connections ended after it or another message of its topic was sent, reason code 0x%02x; it is sent alone", d.Code)
		}
		if d.GivenUp {
			why = fmt.Sprintf("it was given up, reason code 0x%02x; it ends when the server has released its packet identifier", d.Code)
		}
		if d.PacketID != 0 {
			why += fmt.Sprintf("; packet identifier %d", d.PacketID)
		}
		if d.RefusedID != 0 {
			why += fmt.Sprintf("; refused with packet identifier %d", d.RefusedID)
		}
		line("because", "%s", why)
	}
	line("priority", "%s, number %d", priorities[m.Priority], m.Number)
	if m.Key != "" {
		line("key", "%s", safe(m.Key))
	}
	if m.Stream != "" {
		line("stream", "%s, number %d", safe(m.Stream), m.StreamSeq)
	}
	switch m.OnSessionLost {
	case persistence.Republish:
		line("lost session", "the message is published again")
	case persistence.FailInFlight:
		line("lost session", "the message fails if it may have been sent")
	}
	moved := ""
	if m.Moved {
		moved = ", copied from an older segment that was removed"
	}
	line("record", "segment %d, offset %d, %d bytes%s", m.Segment, m.Offset, m.Length, moved)
	payload := m.Packet
	if m.publish, m.decoded = decode(m.Packet); m.decoded {
		properties(&m.publish, line)
		payload = m.publish.Payload
	} else {
		line("packet", "not a PUBLISH")
	}
	line("payload", "%s", plural(len(payload), "byte", "bytes"))
	if err := w.Flush(); err != nil || len(payload) == 0 {
		return err
	}
	return t.payload(payload)
}

func (t *tool) payload(b []byte) error {
	cut := b[:min(len(b), shown)]
	text := hex.Dump(cut)
	if readable(b) {
		text = strings.TrimSuffix(strings.ToValidUTF8(string(cut), ""), "\n") + "\n"
	}
	if len(cut) < len(b) {
		text += fmt.Sprintf("… and %d more bytes; export prints all\n", len(b)-len(cut))
	}
	_, err := fmt.Fprintf(t.out, "\n%s", text)
	return err
}
