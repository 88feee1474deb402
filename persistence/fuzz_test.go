package persistence

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"
)

// FuzzRecord: whatever the bytes, decoding ends, and what it accepts is written
// back to the same meaning.
func FuzzRecord(f *testing.F) {
	at := time.UnixMilli(1_700_000_000_000)
	m := &Message{ID: [16]byte{1, 2, 3}, Accepted: at, Expires: at.Add(time.Hour), Stream: 3, StreamSeq: 9, Packet: []byte("packet")}
	accepted, expires := m.times(&Limits{}, &clock{})
	for _, b := range [][]byte{
		appendMessage(nil, 7, 7, m, accepted, expires), appendMessage(nil, 7, 7, &Message{}, accepted, never),
		appendReleased(nil, 300, 0)[:7], appendReleased(nil, 300, 7), appendDone(nil, 1<<40, Result{Kind: Refused, Reason: 0x97}, 0),
		appendIdentifier(nil, kindSeen, 65535), appendIdentifier(nil, kindCleared, 1),
		(&record{seq: 9, number: 3, priority: Urgent, stream: 2, outcome: Result{Kind: DeadLettered, Reason: 0x99}, message: recordMessage{expires: accepted + 5, accepted: accepted, key: []byte("k"), moved: true, dead: true, packet: []byte("p")}}).appendExtended(nil),
		appendSent(nil, High, 70), appendDone(nil, 9, Result{Kind: Acked}, accepted),
		appendReset(nil, ""), appendReset(nil, "client"), appendUnsent(nil, [Priorities]uint64{5, 300, 0}),
		(&record{seq: 9, number: 9, rank: 300, message: recordMessage{expires: never, moved: true, released: true, lost: FailInFlight, packet: []byte("p")}}).appendExtended(nil),
		appendMessage(nil, 7, 7, &Message{OnSessionLost: Republish, Packet: []byte("packet")}, accepted, never), appendStream(nil, 5, "name"), appendCheckpoint(nil, &ledger{next: 1}, link{1, 2}), nil,
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record
		if r.decode(b) != nil {
			return
		}
		if r.size < minRecord || r.size > len(b) {
			t.Fatalf("a record of %d in %d bytes", r.size, len(b))
		}
		var again []byte
		switch r.kind {
		case kindMessage:
			again = r.appendExtended(nil)
		case kindReleased:
			if again = appendReleased(nil, r.seq, r.rank); r.rank == 0 {
				return // as earlier releases wrote it
			}
		case kindDone:
			again = appendDone(nil, r.seq, r.outcome, r.at)
		case kindSeen, kindCleared:
			again = appendIdentifier(nil, r.kind, r.id)
		case kindSent:
			if again = appendSent(nil, r.priority, r.number); r.priority == Priorities {
				again = appendUnsent(nil, r.sent)
			}
		case kindReset:
			again = appendReset(nil, r.name)
		case kindStream:
			again = appendStream(nil, r.stream, r.name)
		case kindCheckpoint, kindCheckpoint1:
			_, _, _ = decodeCheckpoint(r.kind, r.body)
			return
		}
		var r2 record
		if err := r2.decode(again); err != nil {
			t.Fatalf("%+v written back: %v", r, err)
		}
		r.size, r2.size, r.fence = 0, 0, false
		p, p2 := r.message.packet, r2.message.packet
		key, key2 := r.message.key, r2.message.key
		r.message.packet, r2.message.packet, r.message.key, r2.message.key = nil, nil, nil, nil
		if !bytes.Equal(p, p2) || !bytes.Equal(key, key2) || !reflect.DeepEqual(r, r2) {
			t.Fatalf("%+v became %+v", r, r2)
		}
	})
}

// FuzzRecover opens a folder whose segment has arbitrary bytes; with sealed, all
// that looks like a record gets a valid checksum first, so that the fuzzer comes
// past it. The log must open, keep the sum, and find the same again.
func FuzzRecover(f *testing.F) {
	fsys, name := smallLog(&testing.T{})
	whole := fsys.data(name)
	f.Add(whole, false)
	f.Add(whole[:len(whole)/2], true)
	f.Add(whole[headerSize:], true)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if len(b) > 1<<16 {
			return
		}
		data := slices.Clone(b)
		if sealed {
			data = append(header{number: 1, epoch: 5, first: 1}.append(nil), b...)
			for off := headerSize; off < len(data); {
				_, _, size, ok := parseTag(data[off:])
				if !ok || size > len(data)-off {
					off++
					continue
				}
				fence := data[off+checksumSize]&fenceBit != 0
				seal(data[off:off+size], 1, int64(off), fence)
				off += size
			}
		}
		left := newMemFS()
		left = left.edit("log/0000000000000001.mlog", data)
		l, err := Open("log", Options{FS: left})
		if err != nil {
			t.Fatal(err)
		}
		seqs, stats := entries(t, l)
		if l.LastSeq() < maxSequence {
			if _, err := Append(l, &Message{Packet: []byte("more")}); err != nil {
				t.Fatal(err)
			}
			seqs = append(seqs, l.LastSeq())
			stats.Accepted++
			stats.Pending++
			stats.PendingOf[Normal]++
			stats.PendingBytes += 4
		}
		ids := l.SeenIDs()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, left, Options{})
		defer l.Close()
		again, stats2 := entries(t, l)
		if !slices.Equal(seqs, again) || !slices.Equal(ids, l.SeenIDs()) {
			t.Fatalf("%v, then %v", seqs, again)
		}
		stats.Corruptions, stats.TornTails, stats2.Corruptions, stats2.TornTails = 0, 0, 0, 0
		if stats != stats2 {
			t.Fatalf("%+v, then %+v", stats, stats2)
		}
	})
}

// entries drains l whatever the packets are.
func entries(t *testing.T, l *Log) (seqs []uint64, s Stats) {
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
		if e.Seq <= after {
			t.Fatalf("after %d came %d", after, e.Seq)
		}
		seqs = append(seqs, e.Seq)
	}
	s = l.Stats()
	if s.Accepted != s.Acked+s.Refused+s.Expired+s.Dropped+s.DeadLettered+s.Pending || s.Pending != uint64(len(seqs)) {
		t.Fatalf("the sum does not hold: %+v, %d messages", s, len(seqs))
	}
	s.Syncs, s.BytesWritten, s.DiskBytes, s.Segments = 0, 0, 0, 0
	return seqs, s
}
