package deferral_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/deferral"
	"github.com/mooring-mqtt/mooring/persistence"
)

// model is the simplest model of a Queue: a list of messages, with what the store would record of
// each. No message is sent alone.
type model struct {
	*rig
	rnd    *rand.Rand
	list   map[uint64]*modelMessage
	topics map[modelQueue]*queueState
	next   uint64
}

type modelMessage struct {
	topicQueue modelQueue
	entry      *persistence.Entry
	flight     bool
	id         uint16
	x          deferral.Item // as picked
}

type modelQueue struct {
	topic    string
	priority persistence.Priority
}

type queueState struct {
	closed   bool
	until    time.Time
	attempts int
	code     byte
}

func (m *model) topicQueue(key modelQueue) *queueState {
	if m.topics[key] == nil {
		m.topics[key] = &queueState{}
	}
	return m.topics[key]
}

// add adds a message that waits for others.
func (m *model) add() {
	m.next++
	key := modelQueue{fmt.Sprint("t", m.rnd.IntN(3)), persistence.Priority(m.rnd.IntN(2))}
	e := message(m.next)
	e.Priority, e.Packet = key.priority, make([]byte, m.rnd.IntN(50))
	if m.rnd.IntN(3) == 0 {
		e.Expires = m.now.Add(time.Duration(m.rnd.IntN(60_000)) * time.Millisecond)
	}
	e.Deferral = persistence.Deferral{Since: m.now, Until: m.now}
	m.list[e.Seq] = &modelMessage{topicQueue: key, entry: e}
	m.topicQueue(key)
	m.Follow(key.topic, e, m.now)
}

// any returns a message that is in flight or not, or 0.
func (m *model) any(flight bool) uint64 {
	var list []uint64
	for seq, one := range m.list {
		if one.flight == flight {
			list = append(list, seq)
		}
	}
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[m.rnd.IntN(len(list))]
}

// of returns the messages of a topic queue, in ascending order.
func (m *model) of(key modelQueue, flight bool) (list []uint64) {
	for _, seq := range slices.Sorted(maps.Keys(m.list)) {
		if one := m.list[seq]; one.topicQueue == key && one.flight == flight {
			list = append(list, seq)
		}
	}
	return list
}

// may reports whether a message of a topic queue may be sent now.
func (m *model) may(key modelQueue) bool {
	l := m.topics[key]
	return len(m.of(key, false)) > 0 && !m.now.Before(l.until) && (!l.closed || len(m.of(key, true)) == 0)
}

func (m *model) pick() {
	x, ok := m.Pick(m.now)
	if !ok {
		for key := range m.topics {
			if m.may(key) {
				m.t.Fatalf("after %v nothing was picked; %v has %v, %v in flight, until %v, %+v", m.now.Sub(m.begin), key, m.of(key, false), m.of(key, true), m.topics[key].until.Sub(m.begin), m.topics[key])
			}
		}
		return
	}
	one := m.list[x.Seq]
	if one == nil || one.flight || !m.may(one.topicQueue) || x.Seq != m.of(one.topicQueue, false)[0] || x.ID != one.id || x.Refused != one.entry.Deferral.RefusedID || x.Alone {
		m.t.Fatalf("picked %+v: %+v", x, one)
	}
	one.flight, one.x = true, x
	if m.rnd.IntN(5) == 0 {
		one.flight = false
		m.Unpick(x, m.now)
		return
	}
	one.id = uint16(x.Seq) + 1000
	one.entry.Deferral.PacketID, one.entry.Deferral.Until = one.id, m.now
	m.Under(x.Seq, one.id)
}

func (m *model) refuseOne(seq uint64) {
	one := m.list[seq]
	l, code := m.topicQueue(one.topicQueue), []byte{quota, 0x83, inUse}[m.rnd.IntN(3)]
	d := &one.entry.Deferral
	if code == inUse {
		d.RefusedID = one.id
	}
	if l.attempts == 0 || !m.now.Before(l.until) {
		l.attempts++
		l.until = m.now.Add(min(2*time.Second<<(l.attempts-1), 8*time.Second))
	}
	l.closed, l.code = true, code
	before := *one.entry
	if code == inUse {
		before.Deferral.RefusedID = 0 // the store learns it afterwards
	}
	until, attempts := m.Refuse(one.topicQueue.topic, &before, one.id, code, m.now)
	if !until.Equal(l.until) || attempts != l.attempts {
		m.t.Fatalf("refused until %v, attempt %d; want %+v", until.Sub(m.begin), attempts, l)
	}
	d.Until, d.Attempts, d.Code, d.PacketID = until, d.Attempts+1, code, 0
	one.flight, one.id = false, 0
}

func (m *model) end(seq uint64, answered, acked bool) {
	one := m.list[seq]
	l := m.topics[one.topicQueue]
	delete(m.list, seq)
	m.Ended(seq, answered, acked, m.now)
	if !answered {
		return
	}
	if acked && l.attempts > 0 {
		for _, other := range m.topics {
			if other.code == l.code {
				other.until = m.now
			}
		}
	}
	*l = queueState{until: m.now, code: l.code}
}

// takeOldest drops the first unsent message of a topic queue.
func (m *model) takeOldest() {
	key := modelQueue{fmt.Sprint("t", m.rnd.IntN(3)), persistence.Priority(m.rnd.IntN(2))}
	want := uint64(0)
	if list := m.of(key, false); len(list) > 0 {
		want = list[0]
	}
	if got := m.TakeOldest(key.topic, key.priority, m.now); got != want {
		m.t.Fatalf("took %d, want %d", got, want)
	}
	delete(m.list, want)
}

func (m *model) expire() {
	var want []uint64
	for _, seq := range slices.Sorted(maps.Keys(m.list)) {
		if one := m.list[seq]; !one.flight && one.id == 0 && !one.entry.Expires.IsZero() && !one.entry.Expires.After(m.now) {
			want = append(want, seq)
			delete(m.list, seq)
		}
	}
	got := m.Expired(m.now, m.now)
	if slices.Sort(got); !slices.Equal(got, want) {
		m.t.Fatalf("expired: %v, want %v", got, want)
	}
}

// restart creates a Queue from the content of the store.
func (m *model) restart() {
	m.Queue = deferral.New(fixed)
	clear(m.topics)
	for _, seq := range slices.Sorted(maps.Keys(m.list)) {
		one := m.list[seq]
		d := one.entry.Deferral
		left := d.Until.Sub(m.now)
		m.Restore(one.topicQueue.topic, one.entry, left, m.now)
		l := m.topicQueue(one.topicQueue)
		l.closed = l.closed || d.Attempts > 0
		if until := m.now.Add(left); until.After(l.until) {
			l.until = until
		}
		l.code, l.attempts = cmp.Or(d.Code, l.code), max(l.attempts, d.Attempts)
		one.flight, one.id = d.PacketID != 0, d.PacketID
	}
}

func (m *model) lostSession() {
	m.SessionLost(m.now)
	for _, one := range m.list {
		one.flight, one.id, one.entry.Deferral.PacketID = false, 0, 0
	}
}

func (m *model) check() {
	m.t.Helper()
	for key := range m.topics {
		if len(m.of(key, false))+len(m.of(key, true)) == 0 {
			delete(m.topics, key)
		}
	}
	bytes, flights := int64(0), []uint64{}
	for seq, one := range m.list {
		bytes += int64(len(one.entry.Packet))
		if one.flight {
			flights = append(flights, seq)
		}
		if m.Waits(seq) == one.flight {
			m.t.Fatalf("message %d waits: %v", seq, !one.flight)
		}
		if id := uint16(seq) + 1000; m.Holds(id, 0) != (one.id == id) {
			m.t.Fatalf("message %d holds %d: %v", seq, id, one.id != id)
		}
	}
	for seq := range m.next {
		if m.list[seq+1] == nil && m.Waits(seq+1) {
			m.t.Fatalf("message %d has ended, and waits", seq+1)
		}
	}
	slices.Sort(flights)
	if n := m.Identifiers(); n != len(flights) { // in this model, only messages in flight have one
		m.t.Fatalf("%d identifiers for %d messages in flight", n, len(flights))
	}
	if got := m.InFlight(); !slices.Equal(got, flights) {
		m.t.Fatalf("in flight: %v, want %v", got, flights)
	}
	if s := m.Describe(); s.Messages != len(m.list) || s.Bytes != bytes || s.Topics != len(m.topics) || m.Messages() != len(m.list) || m.Any() != (len(m.list) > 0) {
		m.t.Fatalf("the state is %+v, Any is %v; want %d messages, %d bytes, %d topics", s, m.Any(), len(m.list), bytes, len(m.topics))
	}
	for topic := range 3 {
		for p := range persistence.Priority(2) {
			key := modelQueue{fmt.Sprint("t", topic), p}
			if m.Blocks([]byte(key.topic), p) != (m.topics[key] != nil) {
				m.t.Fatalf("%v blocks: %v", key, m.topics[key] == nil)
			}
			if full, _ := m.Full(key.topic, p, 0, 0); full != (m.topics[key] != nil) {
				m.t.Fatalf("Full(%v) is %v", key, full)
			}
		}
	}
}

// TestQueue_AgreesWithModel applies random operations to a Queue and to the model.
func TestQueue_AgreesWithModel(t *testing.T) {
	for seed := range uint64(60) {
		m := &model{rig: newRig(t), rnd: rand.New(rand.NewPCG(seed, 1)), list: map[uint64]*modelMessage{}, topics: map[modelQueue]*queueState{}}
		var history []string
		t.Cleanup(func() {
			if t.Failed() && history != nil {
				t.Logf("seed %d: %v", seed, history)
			}
		})
		for range 400 {
			n := m.rnd.IntN(100)
			history = append(history, fmt.Sprint(n))
			switch seq := m.any(n%3 > 0); {
			case n < 20 && len(m.list) < 20:
				m.add()
			case n < 50:
				m.pick()
			case n < 65:
				if seq != 0 {
					m.refuseOne(seq)
				}
			case n < 80:
				if seq = m.any(true); seq != 0 {
					m.end(seq, true, n < 77)
				}
			case n < 84:
				if seq != 0 {
					m.end(seq, false, false)
				}
			case n < 95:
				m.pass(time.Duration(m.rnd.IntN(5000)) * time.Millisecond)
				m.expire()
			case n < 96:
				m.lostSession()
			case n < 97:
				m.restart()
			case n < 98:
				m.takeOldest()
			default:
				m.Due(m.now, func(code byte) bool { return code == quota }, false)
				for _, l := range m.topics {
					if l.code == quota {
						l.until = m.now
					}
				}
			}
			m.check()
		}
		history = nil
	}
}
