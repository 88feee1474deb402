package mqtttest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// replay applies the transactions of a journal to a broker without connections and without a
// journal.
type replay struct {
	b        *Broker
	sessions map[uint64]*session
	messages map[uint64]*message
	tx       []byte // rest of the current transaction
	bad      bool
}

func newReplay(b *Broker) *replay {
	return &replay{b: b, sessions: make(map[uint64]*session), messages: make(map[uint64]*message)}
}

var errRecord = errors.New("a record is invalid at its position")

func (r *replay) apply(tx []byte) error {
	r.tx = tx
	for len(r.tx) > 0 {
		record := r.tx[0]
		r.tx = r.tx[1:]
		if r.record(record); r.bad {
			return fmt.Errorf("%w (type %d)", errRecord, record)
		}
	}
	return nil
}

func (r *replay) record(record byte) {
	switch record {
	case recSession:
		r.session()
	case recMessage:
		r.message()
	case recRetained:
		if m := r.known(); m != nil {
			r.b.retained.set(m)
		}
	case recUnretained:
		r.b.retained.remove(r.str())
	default:
		if s := r.sessions[r.num(math.MaxUint64)]; s == nil {
			r.bad = true
		} else {
			r.change(record, s)
		}
	}
}

// change applies a record about an existing session.
func (r *replay) change(record byte, s *session) {
	switch record {
	case recEnded:
		r.b.forget(s)
		delete(r.sessions, s.id)
	case recSubscribed:
		r.subscribed(s)
	case recUnsubscribed:
		r.bad = !r.b.unsubscribe(s, r.str())
	case recQueued:
		if e := r.entry(); !r.bad {
			s.queue.push(e)
		}
	case recDropped:
		index := int(r.num(math.MaxInt32))
		if r.bad = r.bad || index >= s.queue.n; index == 0 && !r.bad {
			s.queue.pop()
		} else {
			i := -1
			s.queue.sift(func(*entry) bool { i++; return i != index })
		}
	case recSent:
		id := r.packetID()
		if r.bad = r.bad || s.queue.n == 0 || s.flights.byID[id] != nil; !r.bad {
			s.flights.add(&flight{entry: s.queue.pop(), id: id})
			s.flights.lastID = id
		}
	case recFlight:
		f := &flight{id: r.packetID(), released: r.num(1) == 1}
		f.entry = r.entry()
		if r.bad = r.bad || s.flights.byID[f.id] != nil; !r.bad {
			s.flights.add(f)
			s.flights.lastID = f.id
		}
	case recInbound:
		s.inbound[r.packetID()] = struct{}{}
	case recInboundDone:
		delete(s.inbound, r.packetID())
	case recPubrec, recCompleted:
		f := s.flights.byID[r.packetID()]
		switch {
		case f == nil:
			r.bad = true
		case record == recPubrec:
			f.released = true
		default:
			s.flights.remove(f, nil)
		}
	default:
		r.bad = true
	}
}

func (r *replay) session() {
	id, clientID := r.num(math.MaxUint64), r.str()
	s := r.sessions[id]
	if s == nil {
		if r.bad = r.bad || r.b.sessions[clientID] != nil; r.bad {
			return
		}
		s = r.b.newSession(clientID)
		s.id = id
		r.b.sessionID = max(r.b.sessionID, id)
		r.sessions[id] = s
	}
	s.expiry = uint32(r.num(math.MaxUint32))
	s.lostAt = fromMilli(r.num(math.MaxInt64))
	flags := r.num(flagKeeps | flagWill | flagWillRetain)
	s.keeps = flags&flagKeeps != 0
	s.will = nil
	if flags&flagWill != 0 {
		s.will = &will{retain: flags&flagWillRetain != 0, qos: byte(r.num(2)), delay: uint32(r.num(math.MaxUint32))}
		s.will.topic = r.topic()
		s.will.payload = r.bytes()
		s.will.properties = r.properties()
	}
}

func (r *replay) subscribed(s *session) {
	sub := &subscription{session: s, filter: r.str()}
	options := r.num(flagNoLocal | flagAsPublished | 3)
	sub.qos, sub.noLocal, sub.asPublished = byte(options&3), options&flagNoLocal != 0, options&flagAsPublished != 0
	sub.ids = r.numbers()
	if r.bad = r.bad || sub.qos == 3 || wire.CheckTopicFilter(sub.filter) != nil; r.bad {
		return
	}
	old := s.subs[sub.filter]
	r.b.tree.add(sub, old)
	s.subs[sub.filter] = sub
	if old == nil {
		r.b.stats.Subscriptions++
	}
}

func (r *replay) message() {
	m := &message{id: r.num(math.MaxUint64)}
	flags := r.num(7)
	m.qos, m.retain = byte(flags&3), flags&4 != 0
	m.expires = fromMilli(r.num(math.MaxInt64))
	m.topic = r.topic()
	m.props = r.properties()
	m.payload = r.bytes()
	if r.bad = r.bad || m.qos == 3; !r.bad {
		r.messages[m.id] = m
		r.b.messageID = max(r.b.messageID, m.id)
	}
}

// known reads the number of an already recorded message.
func (r *replay) known() *message {
	m := r.messages[r.num(math.MaxUint64)]
	r.bad = r.bad || m == nil
	return m
}

func (r *replay) entry() (e entry) {
	e.msg = r.known()
	flags := r.num(7)
	e.qos, e.retain = byte(flags&3), flags&4 != 0
	e.share = r.str()
	e.subIDs = r.numbers()
	r.bad = r.bad || e.qos == 0 || e.qos == 3
	return e
}

// num reads a number of at most limit.
func (r *replay) num(limit uint64) uint64 {
	v, n := binary.Uvarint(r.tx)
	if n <= 0 || v > limit {
		r.bad, r.tx = true, nil
		return 0
	}
	r.tx = r.tx[n:]
	return v
}

func (r *replay) packetID() uint16 {
	id := uint16(r.num(math.MaxUint16))
	r.bad = r.bad || id == 0
	return id
}

func (r *replay) numbers() (list []uint32) {
	for n := r.num(uint64(len(r.tx))); n > 0 && !r.bad; n-- {
		id := uint32(r.num(268_435_455))
		r.bad = r.bad || id == 0
		list = append(list, id)
	}
	return list
}

func (r *replay) bytes() []byte {
	n := r.num(uint64(len(r.tx)))
	if n > uint64(len(r.tx)) {
		r.bad, r.tx = true, nil
		return nil
	}
	b := append([]byte(nil), r.tx[:n]...)
	r.tx = r.tx[n:]
	return b
}

func (r *replay) str() string { return string(r.bytes()) }

func (r *replay) topic() string {
	topic := r.str()
	r.bad = r.bad || wire.CheckTopicName("Topic Name", topic) != nil
	return topic
}

func (r *replay) properties() wire.Properties {
	props := r.bytes()
	r.bad = r.bad || !validProperties(props)
	return props
}
