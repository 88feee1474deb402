package persistence

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/fsys"
)

// numbered returns a message whose packet contains its sequence.
func numbered(seq uint64, size int) *Message {
	m := &Message{Packet: bytes.Repeat([]byte{byte(seq)}, max(size, 8))}
	binary.BigEndian.PutUint64(m.Packet, seq)
	binary.BigEndian.PutUint64(m.ID[:], seq)
	return m
}

// contents drains l. The test fails if a message is changed or out of order.
func contents(t *testing.T, l *Log) (seqs, released []uint64) {
	t.Helper()
	var e Entry
	for {
		after := e.Seq
		ok, err := l.Next(&Cursor{after}, &e)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		want := numbered(e.Seq, len(e.Packet))
		if e.Seq <= after || !bytes.Equal(e.Packet, want.Packet) || e.ID != want.ID {
			t.Fatalf("after %d came %d, or it was changed", after, e.Seq)
		}
		seqs = append(seqs, e.Seq)
		if e.Released {
			released = append(released, e.Seq)
		}
	}
	s := l.Stats()
	if s.Accepted != s.Acked+s.Refused+s.Expired+s.Dropped+s.DeadLettered+s.Pending || s.Pending != uint64(len(seqs)) {
		t.Fatalf("the sum does not hold: %+v, %d messages", s, len(seqs))
	}
	return seqs, released
}

func open(t *testing.T, fsys fsys.FS, o Options) *Log {
	t.Helper()
	o.FS = fsys
	l, err := Open("log", o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// errPower is the error of every operation after a power failure.
var errPower = errors.New("the power is off")

var small = Options{Files: Files{SegmentBytes: 4 << 10, BufferBytes: 4 << 10}}

// eachStream calls yield for each named sequence, in the order of registration.
func eachStream(l *Log, yield func(name string, id uint32, last uint64) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.state.ledger.Streams {
		if !yield(s.Name, uint32(i+1), s.Last) {
			return
		}
	}
}
