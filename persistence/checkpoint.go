package persistence

import "encoding/binary"

// A checkpoint is an image of the ledger at its place in the log. Each segment
// has one at the end of its opening (what is written when the segment is begun),
// so the segments before it can go once their messages are done: nothing that
// counts is in them only. Which messages are done or released it does not say;
// those records lie in the same segment as the message or a later one, and
// segments are removed from the front only.
//
// It repeats the link to the previous segment, in case the header is damaged.
func appendCheckpoint(b []byte, g *ledger, prev link) []byte {
	body := make([]byte, 0, 128)
	for _, v := range []uint64{g.epoch, g.boot, g.next, g.totals[Acked], g.totals[Refused], g.totals[Expired], g.totals[Dropped], g.lost, flag(g.session), prev.number, uint64(prev.size),
		g.totals[DeadLettered], uint64(max(g.clock.now(), 0)), g.numbers[High], g.numbers[Urgent], g.sent[Normal], g.sent[High], g.sent[Urgent]} {
		body = binary.AppendUvarint(body, v)
	}
	body = binary.AppendUvarint(body, uint64(len(g.streams)))
	for _, s := range g.streams {
		body = binary.AppendUvarint(body, s.last)
		body = binary.AppendUvarint(body, uint64(len(s.name)))
		body = append(body, s.name...)
	}
	body = binary.AppendUvarint(body, uint64(g.seen.count))
	for _, id := range g.seen.list() {
		body = binary.AppendUvarint(body, uint64(id))
	}
	body = append(body, g.owner...)
	return append(appendTag(b, kindCheckpoint, len(body)), body...)
}

// decodeCheckpoint returns a ledger without the pending messages and dead
// letters, which are counted from their records. One of format version 1 lacks
// the second row of fields.
func decodeCheckpoint(kind uint8, body []byte) (g ledger, prev link, err error) {
	d := decoder{b: body}
	g.epoch, g.boot = d.number(maxSequence), d.number(maxSequence)
	g.next = d.sequence()
	for k := Acked; k <= Dropped; k++ {
		g.totals[k] = d.number(maxSequence)
	}
	g.lost = d.number(maxSequence)
	g.session = d.number(1) == 1
	prev = link{number: d.number(maxSequence), size: int64(d.number(maxSequence))}
	if kind == kindCheckpoint {
		g.totals[DeadLettered] = d.number(maxSequence)
		g.latest = int64(d.number(maxMillis))
		g.numbers[High], g.numbers[Urgent] = d.number(maxSequence), d.number(maxSequence)
		for p := range g.sent {
			g.sent[p] = d.number(maxSequence)
		}
	}
	for n := d.number(maxStreams); n > 0 && !d.bad; n-- {
		last := d.number(1<<64 - 1)
		name := string(d.take(int(d.number(maxStreamName))))
		if _, twice := g.streamID[name]; twice || name == "" {
			d.bad = true
			break
		}
		g.addStream(name, last)
	}
	for n := d.number(1 << 16); n > 0 && !d.bad; n-- {
		g.seen.add(uint16(d.number(1<<16 - 1)))
	}
	if kind == kindCheckpoint {
		g.owner = string(d.rest())
	}
	if d.bad || len(d.b) > 0 || len(g.owner) > maxClientID {
		return ledger{}, link{}, errRecord
	}
	return g, prev, nil
}

func flag(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}
