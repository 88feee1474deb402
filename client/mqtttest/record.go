package mqtttest

import (
	"encoding/binary"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// The records of the journal. Each record consists of its type and the fields that the method of
// the same name writes. Numbers are varints. The length of a text or byte slice comes before its
// content. Sessions and messages are identified by their numbers.
const (
	recSession byte = iota + 1
	recEnded
	recSubscribed
	recUnsubscribed
	recMessage
	recQueued
	recDropped
	recSent
	recFlight
	recPubrec
	recCompleted
	recInbound
	recInboundDone
	recRetained
	recUnretained
)

const (
	flagKeeps = 1 << iota
	flagWill
	flagWillRetain
)

const (
	flagNoLocal = 1 << (iota + 2) // above the QoS
	flagAsPublished
)

func (j *journal) num(values ...uint64) {
	for _, v := range values {
		j.tx = binary.AppendUvarint(j.tx, v)
	}
}

func (j *journal) str(s string) {
	j.num(uint64(len(s)))
	j.tx = append(j.tx, s...)
}

func (j *journal) bytes(b []byte) {
	j.num(uint64(len(b)))
	j.tx = append(j.tx, b...)
}

func (j *journal) begin(record byte, values ...uint64) {
	j.tx = append(j.tx, record)
	j.num(values...)
}

// session records the fields of s that no other record contains.
func (j *journal) session(s *session) {
	if j == nil {
		return
	}
	var flags uint64
	if s.keeps {
		flags |= flagKeeps
	}
	if s.will != nil {
		flags |= flagWill
		if s.will.retain {
			flags |= flagWillRetain
		}
	}
	j.begin(recSession, s.id)
	j.str(s.clientID)
	j.num(uint64(s.expiry), unixMilli(s.lostAt), flags)
	if w := s.will; w != nil {
		j.num(uint64(w.qos), uint64(w.delay))
		j.str(w.topic)
		j.bytes(w.payload)
		j.bytes(w.properties)
	}
}

func (j *journal) ended(s *session) {
	if j != nil {
		j.begin(recEnded, s.id)
	}
}

func (j *journal) subscribed(sub *subscription) {
	if j == nil {
		return
	}
	options := uint64(sub.qos)
	if sub.noLocal {
		options |= flagNoLocal
	}
	if sub.asPublished {
		options |= flagAsPublished
	}
	j.begin(recSubscribed, sub.session.id)
	j.str(sub.filter)
	j.num(options)
	j.numbers(sub.ids)
}

func (j *journal) numbers(list []uint32) {
	j.num(uint64(len(list)))
	for _, n := range list {
		j.num(uint64(n))
	}
}

func (j *journal) unsubscribed(s *session, filter string) {
	if j != nil {
		j.begin(recUnsubscribed, s.id)
		j.str(filter)
	}
}

// message records m, unless this journal already contains it.
func (j *journal) message(m *message) {
	if m.logged == j.gen {
		return
	}
	m.logged = j.gen
	flags := uint64(m.qos)
	if m.retain {
		flags |= 1 << 2
	}
	j.begin(recMessage, m.id, flags, unixMilli(m.expires))
	j.str(m.topic)
	j.bytes(m.props)
	j.bytes(m.payload)
}

func (j *journal) entry(e *entry) {
	flags := uint64(e.qos)
	if e.retain {
		flags |= 1 << 2
	}
	j.num(e.msg.id, flags)
	j.str(e.share)
	j.numbers(e.subIDs)
}

func (j *journal) queued(s *session, e *entry) {
	if j != nil {
		j.message(e.msg)
		j.begin(recQueued, s.id)
		j.entry(e)
	}
}

// dropped records that a message was removed from the queue without being sent. index counts only
// messages in the journal.
func (j *journal) dropped(s *session, index int) {
	if j != nil {
		j.begin(recDropped, s.id, uint64(index))
	}
}

// sent records that the first message of the queue is sent with the packet identifier id.
func (j *journal) sent(s *session, id uint16) {
	if j != nil {
		j.begin(recSent, s.id, uint64(id))
	}
}

// flight records a message in flight, for a snapshot.
func (j *journal) flight(s *session, f *flight) {
	j.message(f.msg)
	var released uint64
	if f.released {
		released = 1
	}
	j.begin(recFlight, s.id, uint64(f.id), released)
	j.entry(&f.entry)
}

func (j *journal) pubrec(s *session, id uint16) {
	if j != nil {
		j.begin(recPubrec, s.id, uint64(id))
	}
}

func (j *journal) completed(s *session, id uint16) {
	if j != nil {
		j.begin(recCompleted, s.id, uint64(id))
	}
}

func (j *journal) inbound(s *session, id uint16) {
	if j != nil {
		j.begin(recInbound, s.id, uint64(id))
	}
}

func (j *journal) inboundDone(s *session, id uint16) {
	if j != nil {
		j.begin(recInboundDone, s.id, uint64(id))
	}
}

func (j *journal) retained(m *message) {
	if j != nil {
		j.message(m)
		j.begin(recRetained, m.id)
	}
}

func (j *journal) unretained(topic string) {
	if j != nil {
		j.begin(recUnretained)
		j.str(topic)
	}
}

// unixMilli returns 0 for the zero time.
func unixMilli(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMilli())
}

func fromMilli(ms uint64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// validProperties reports whether properties from a journal may be sent in a PUBLISH.
func validProperties(props []byte) bool {
	_, rest, err := wire.SplitProperties(wire.PUBLISH, append(wire.AppendVarint(nil, uint32(len(props))), props...))
	return err == nil && len(rest) == 0
}
