package ledger

import (
	"encoding/binary"

	"github.com/mooring-mqtt/mooring/persistence/internal/record"
	"github.com/mooring-mqtt/mooring/persistence/internal/segment"
)

const (
	damageShift = 5                       // shift of Ledger.Damage in the flags
	keyed       = 1 << (damageShift + 32) // flag: the checkpoint has a key and fingerprints
)

// AppendCheckpoint appends a checkpoint, which is an encoding of the ledger. The opening of a
// segment is the part that is written when the segment begins. Each opening contains a checkpoint,
// so earlier segments can be removed as soon as their messages have ended. A checkpoint does not
// list the released and the ended messages, because their records are never in an earlier segment
// than the message. It repeats the link to the previous segment, in case the header is damaged.
func (g *Ledger) AppendCheckpoint(b []byte, prev segment.Link) []byte {
	body := make([]byte, 0, 128)
	put := func(numbers ...uint64) {
		for _, n := range numbers {
			body = binary.AppendUvarint(body, n)
		}
	}
	flags := uint64(0)
	for bit, set := range []bool{g.Session, g.Writer.Known, g.Writer.Lossy, g.Writer.Closed, g.SentLost} {
		if set {
			flags |= 1 << bit
		}
	}
	flags |= uint64(g.Damage) << damageShift
	if g.Key != [16]byte{} {
		flags |= keyed
	}
	put(g.Epoch, g.Boot, g.Next)
	put(g.Totals[record.Acked:record.DeadLettered]...)
	put(g.Lost, flags, prev.Number, uint64(prev.Size))
	put(g.Totals[record.DeadLettered], uint64(max(g.Clock.Now(), 0)), g.Numbers[1], g.Numbers[2])
	put(g.Sent[:]...)
	put(uint64(len(g.Streams)))
	for _, s := range g.Streams {
		put(s.Last, uint64(len(s.Name)))
		body = append(body, s.Name...)
	}
	put(uint64(len(g.Seen)))
	for _, id := range g.Seen.List() {
		put(uint64(id))
		if flags&keyed != 0 {
			body = binary.LittleEndian.AppendUint64(body, g.Seen[id])
		}
	}
	if g.Writer.Known {
		put(g.Writer.Boot, g.Writer.Machine)
	}
	if flags&keyed != 0 {
		body = append(body, g.Key[:]...)
	}
	return record.AppendCheckpoint(b, append(body, g.Owner...))
}

// DecodeCheckpoint decodes the body of a checkpoint. It does not set the values that are counted
// from the records of messages.
func DecodeCheckpoint(body []byte, version1 bool) (g Ledger, prev segment.Link, err error) {
	const most = record.MaxSequence
	d := record.Decoder{B: body}
	g.Epoch, g.Boot, g.Next = d.Number(most), d.Number(most), d.Sequence()
	for k := record.Acked; k <= record.Dropped; k++ {
		g.Totals[k] = d.Number(most)
	}
	g.Lost = d.Number(most)
	flags := d.Number(2*keyed - 1)
	g.Session, g.SentLost, g.Damage = flags&1 != 0, flags&16 != 0, uint32(flags>>damageShift)
	g.Writer = Writer{Known: flags&2 != 0, Lossy: flags&4 != 0, Closed: flags&8 != 0}
	prev = segment.Link{Number: d.Number(most), Size: int64(d.Number(most))}
	if !version1 {
		g.Totals[record.DeadLettered], g.Latest = d.Number(most), int64(d.Number(record.MaxMillis))
		g.Numbers[1], g.Numbers[2] = d.Number(most), d.Number(most)
		for p := range g.Sent {
			g.Sent[p] = d.Number(most)
		}
	}
	for range d.Number(record.MaxStreams) {
		last := d.Number(1<<64 - 1)
		name := string(d.Take(int(d.Number(record.MaxStreamName))))
		if _, twice := g.streamID[name]; twice || name == "" {
			d.Fail()
			break
		}
		g.AddStream(name, last)
	}
	for range d.Number(1 << 16) {
		id, fingerprint := uint16(d.Number(1<<16-1)), uint64(0)
		if flags&keyed != 0 {
			fingerprint = d.Fixed64()
		}
		g.Seen.Add(id, fingerprint)
	}
	if g.Writer.Known {
		g.Writer.Boot, g.Writer.Machine = d.Number(most), d.Number(most)
	} else if flags > 1 {
		d.Fail()
	}
	if flags&keyed != 0 {
		if copy(g.Key[:], d.Take(len(g.Key))); g.Key == [16]byte{} {
			d.Fail()
		}
	}
	if !version1 {
		g.Owner = string(d.Rest())
	}
	if !d.Done() || len(g.Owner) > record.MaxClientID {
		return Ledger{}, segment.Link{}, record.ErrInvalid
	}
	return g, prev, nil
}
