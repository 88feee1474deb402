package record_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
)

const at = 1_700_000_000_000

var deferral = record.Deferral{Since: at, Until: at + 60_000, Attempts: 1<<32 - 1, Alone: true, GivenUp: true, Code: 0x97, PacketID: 65535, RefusedID: 65534}

var messages = []record.Record{
	{Seq: 7, Stream: 3, Message: record.Message{MessageID: [16]byte{1, 2, 3}, Accepted: at, Expires: at + 3_600_000, StreamSeq: 9, Packet: []byte("packet")}},
	{Seq: 7, Message: record.Message{Accepted: at, Expires: record.Never}},
	{Seq: 7, Message: record.Message{Accepted: at, Expires: record.Never, Policy: record.Republish, Packet: []byte("packet")}},
	{Seq: 9, Number: 3, Priority: record.Urgent, Stream: 2, Result: record.Result{Kind: record.DeadLettered, Reason: 0x99},
		Message: record.Message{Accepted: at, Expires: at + 5, Key: []byte("k"), Moved: true, Dead: true, Packet: []byte("p")}},
	{Seq: 9, Rank: 300, Message: record.Message{Expires: record.Never, Moved: true, Released: true, Policy: record.FailInFlight, Packet: []byte("p")}},
	{Seq: 9, Deferral: deferral, Message: record.Message{Expires: record.Never, Moved: true, Deferred: true, Packet: []byte("p")}},
	{Seq: 9, Number: 4, Priority: record.Urgent, Rank: 2, Deferral: deferral, Message: record.Message{Accepted: at, Expires: at + 1, Moved: true, Released: true, Deferred: true, Key: []byte("k"), Packet: []byte("p")}},
}

// FuzzRecord checks that decoding ends for arbitrary bytes, and that a decoded record is encoded
// again with the same meaning.
func FuzzRecord(f *testing.F) {
	for _, r := range messages {
		f.Add(r.AppendMessage(nil))
	}
	for _, b := range [][]byte{
		record.AppendReleased(nil, 300, 0)[:7], record.AppendReleased(nil, 300, 7),
		record.AppendDone(nil, 1<<40, record.Result{Kind: record.Refused, Reason: 0x97}, 0), record.AppendDone(nil, 9, record.Result{Kind: record.Acked}, at),
		record.AppendSeen(nil, 65535, 1<<64-1), record.AppendSeen(nil, 7, 0)[:6], record.AppendCleared(nil, 1),
		record.AppendSent(nil, 1, 70), record.AppendSentAll(nil, [record.Priorities]uint64{5, 300, 0}),
		record.AppendReset(nil, ""), record.AppendReset(nil, "client"), record.AppendStream(nil, 5, "name"),
		record.AppendDeferred(nil, 300, deferral), record.AppendDeferred(nil, 1, record.Deferral{Since: at, Until: at}),
		record.AppendCheckpoint(nil, []byte{1}), nil,
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r record.Record
		if r.Decode(b) != nil {
			return
		}
		if size, ok := record.ParseTag(b); !ok || r.Size != size || size > len(b) {
			t.Fatalf("a record of %d bytes in %d", r.Size, len(b))
		}
		if seq, ok := record.Sequence(b); !ok || seq != r.Seq {
			t.Fatalf("Sequence returned %d, %v for %+v", seq, ok, r)
		}
		var again []byte
		switch r.Kind {
		case record.KindMessage:
			again = r.AppendMessage(nil)
		case record.KindReleased:
			if again = record.AppendReleased(nil, r.Seq, r.Rank); r.Rank == 0 {
				return // encoded as by earlier releases
			}
		case record.KindDone:
			again = record.AppendDone(nil, r.Seq, r.Result, r.At)
		case record.KindDeferred:
			again = record.AppendDeferred(nil, r.Seq, r.Deferral)
		case record.KindSeen:
			again = record.AppendSeen(nil, r.ID, r.Fingerprint)
		case record.KindCleared:
			again = record.AppendCleared(nil, r.ID)
		case record.KindSent:
			if again = record.AppendSent(nil, r.Priority, r.Number); r.Priority == record.Priorities {
				again = record.AppendSentAll(nil, r.Sent)
			}
		case record.KindReset:
			again = record.AppendReset(nil, r.Name)
		case record.KindStream:
			again = record.AppendStream(nil, r.Stream, r.Name)
		case record.KindCheckpoint:
			if again = record.AppendCheckpoint(nil, r.Body); r.Version1 {
				return
			}
		}
		var r2 record.Record
		if err := r2.Decode(again); err != nil {
			t.Fatalf("%+v written back: %v", r, err)
		}
		r.Size, r2.Size, r.Fence = 0, 0, false
		for _, f := range [][2]*[]byte{{&r.Packet, &r2.Packet}, {&r.Key, &r2.Key}, {&r.Body, &r2.Body}} {
			if !bytes.Equal(*f[0], *f[1]) {
				t.Fatalf("%+v became %+v", r, r2)
			}
			*f[0], *f[1] = nil, nil
		}
		if !reflect.DeepEqual(r, r2) {
			t.Fatalf("%+v became %+v", r, r2)
		}
	})
}

func TestAppendMessage_RoundTrip(t *testing.T) {
	for _, want := range messages {
		b := want.AppendMessage(nil)
		var got record.Record
		if err := got.Decode(b); err != nil {
			t.Errorf("%+v: %v", want, err)
			continue
		}
		want.Kind, want.Size = record.KindMessage, len(b)
		if want.Priority == record.Normal {
			want.Number = want.Seq
		}
		if len(want.Packet) == 0 {
			got.Packet = nil
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v", want, got)
		}
	}
}

// TestSeal checks that a sealed record is valid only in its place, and that only the first record
// has the fence bit.
func TestSeal(t *testing.T) {
	b := record.AppendReleased(nil, 1, 1)
	size := len(b)
	b = record.AppendReleased(b, 2, 2)
	record.Seal(b, 5, 100, true)
	first, second := b[:size], b[size:]
	if !record.Valid(first, 5, 100) || !record.Valid(second, 5, 100+int64(size)) {
		t.Error("a record is invalid at its place")
	}
	if record.Valid(first, 5, 101) || record.Valid(first, 6, 100) || record.Valid(second, 5, 100) {
		t.Error("a record is valid at another place")
	}
	var r record.Record
	if err := r.Decode(first); err != nil || !r.Fence {
		t.Errorf("the first record: %+v, %v", r, err)
	}
	if err := r.Decode(second); err != nil || r.Fence {
		t.Errorf("the second record: %+v, %v", r, err)
	}
	record.Seal(first, 5, 100, false)
	if err := r.Decode(first); err != nil || r.Fence {
		t.Errorf("sealed again, without a fence: %+v, %v", r, err)
	}
}

// TestFlags checks that the decoder refuses unknown flags and invalid combinations.
func TestFlags(t *testing.T) {
	const republish, fail, unknown = 1 << 8, 1 << 9, 1 << 10
	with := func(flags uint64) []byte {
		body := append(binary.AppendUvarint(nil, 7), make([]byte, 16)...)
		body = binary.AppendUvarint(binary.AppendUvarint(body, at), flags)
		body = append(body, "packet"...)
		return append(binary.AppendUvarint(make([]byte, 4), uint64(len(body))<<5|12), body...)
	}
	for flags, want := range map[uint64]uint8{0: 0, republish: record.Republish, fail: record.FailInFlight} {
		var r record.Record
		if err := r.Decode(with(flags)); err != nil || r.Policy != want || string(r.Packet) != "packet" {
			t.Errorf("flags %d: %+v, %v", flags, r.Message, err)
		}
	}
	for _, flags := range []uint64{republish | fail, unknown, unknown | fail, 1 << 62} {
		var r record.Record
		if err := r.Decode(with(flags)); err == nil {
			t.Errorf("flags %d: %+v", flags, r.Message)
		}
	}
}

// TestSizes checks that a message takes at most 40 bytes in addition to its packet, and a result at
// most 24.
func TestSizes(t *testing.T) {
	latest := record.Message{Accepted: record.MaxMillis / 1000 * 1000, Expires: record.Millis(time.Unix(1, 1e6)), StreamSeq: 1<<64 - 1}
	longest := latest
	longest.Key, longest.Policy = []byte(strings.Repeat("k", record.MaxKey)), record.Republish
	for _, c := range []struct {
		name   string
		r      record.Record
		packet int
		atMost int
	}{
		{"plain", record.Record{Seq: 1 << 27, Message: record.Message{Accepted: at, Expires: record.Never}}, 500, 33},
		{"with expiry and sequence", record.Record{Seq: 1 << 27, Stream: 100, Message: record.Message{Accepted: at, Expires: at + 86_400_000, StreamSeq: 1 << 20}}, 400, record.Overhead},
		{"the quarter billionth with expiry", record.Record{Seq: 1<<28 - 1, Message: record.Message{Accepted: at, Expires: at + 360_000_000}}, 60_000, record.Overhead},
		{"with a policy for a lost session", record.Record{Seq: 1 << 27, Message: record.Message{Accepted: at, Expires: record.Never, Policy: record.FailInFlight}}, 500, 35},
		{"everything at its longest", record.Record{Seq: record.MaxSequence, Stream: record.MaxStreams, Message: latest}, 0, 70},
		{"extended, at its longest", record.Record{Seq: record.MaxSequence, Number: record.MaxSequence, Stream: record.MaxStreams, Priority: record.Urgent, Message: longest},
			record.MaxPacketBytes, record.MaxOverhead},
	} {
		c.r.Packet = make([]byte, c.packet)
		if n := len(c.r.AppendMessage(make([]byte, 0, c.packet+2*record.MaxOverhead))) - c.packet; n > c.atMost {
			t.Errorf("%s: %d bytes beside the packet, want at most %d", c.name, n, c.atMost)
		}
	}
	if n := len(record.AppendDone(nil, record.MaxSequence, record.Result{Kind: record.Dropped, Reason: 255}, 1<<42)); n > 24 {
		t.Errorf("a result takes %d bytes", n)
	}
}

func TestMillis(t *testing.T) {
	for _, tm := range []time.Time{{}, time.UnixMilli(at), time.UnixMilli(-5), time.Date(9_000_000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if got := record.Time(record.Millis(tm)); !got.Equal(tm) {
			t.Errorf("%v became %v", tm, got)
		}
	}
	if got := record.Millis(time.Unix(1<<61, 0)); got > record.MaxMillis {
		t.Errorf("a late time became %d", got)
	}
}
