package outbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// passing are reason codes after which a message stays pending. After a final code it ends.
var passing = []byte{0x80, 0x83, 0x87, 0x91, 0x97, 0xA7}

const final = wire.ReasonPayloadFormatInvalid

// silentTrials is how often a message must end connections before other messages of its topic
// overtake it.
const silentTrials = 3

// deferModel is a server and an application for random histories in which messages are deferred. It
// sees what they see of the outbox: the packets of each connection, the results and the reports.
type deferModel struct {
	*rig
	rnd      *rand.Rand
	topics   []string
	refuses  map[string]byte // topics that the server refuses now, and the code
	list     []*deferMessage // accepted messages, by n-1
	numbers  [persistence.Priorities]uint64
	earlier  [persistence.Priorities]uint64 // watermarks when the process began; 0 once the session is lost
	earlySeq uint64
	process  int
	orders   int               // messages sent for the first time
	ids      map[uint16]uint64 // packet identifiers of unacknowledged messages of this session
	up       *deferConn
	seen     int
	counts   map[outbox.State]uint64
	expect   map[uint64]outbox.State
	reported []outbox.Delay
	judged   int    // of these, by judge
	faults   bool   // operations of the store may fail
	failing  string // the operation of the store that fails; empty: none
	unread   bool   // the outbox could not read a refused message
	lostNow  bool
	unknown  bool                 // the session was lost, and the send loop has not noticed yet
	began    time.Time            // start of the connection
	acking   uint64               // the message whose answer is on its way to the send loop
	until    map[string]time.Time // when the first message of a topic and priority may be sent
	isolated map[string]time.Time // topics and priorities whose messages are all sent alone
	gave     map[string]bool      // topics of messages that this process gave up because of their connections
	silent   map[string]bool      // isolated topics: connections ended without a reason because of one message
}

type deferMessage struct {
	n, seq, number uint64
	topic          string
	priority       persistence.Priority
	qos            byte
	fails          bool
	poisonous      bool // the server ends connections because of it
	key            string
	expires        time.Time
	process        int
	w              *outbox.Waiter
	id             uint16 // identifier under which it is unacknowledged in this session
	last           uint16 // identifier under which it was refused with 0x91
	order          int    // position in the order of sending, in this process
	cuts           int    // consecutive connections that may have ended because of it
	released       bool
	givenUp        bool // it ends when its packet identifier is purged
	alone          bool
	taken          bool // sent alone on an earlier connection, which ended after the PUBREC
	kept           bool // it was not resent when its topic was isolated, so it has no place in the order
	unsure         bool // it was offered on a broken connection
	unplaced       bool // first sent on a broken connection, so its place in the order is unknown
	lost           bool // it was in flight in a session that was lost: others may overtake it
	until          time.Time
	end            *outbox.End
}

type deferConn struct {
	limits session.Limits
	here   map[uint64]bool // sent or continued here, not acknowledged
	resent int
	acked  int
	sent   int
	broken bool            // writes fail
	unsure map[uint64]bool // offered here when it was broken
}

// TestOutbox_AgainstModelWithDeferral applies random histories. The server refuses messages for
// now, ends connections because of some, and loses the session. The process restarts.
func TestOutbox_AgainstModelWithDeferral(t *testing.T) {
	for seed := range uint64(modelSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { runDeferModel(t, seed, 300) })
		})
	}
}

func runDeferModel(t *testing.T, seed uint64, steps int) {
	m := &deferModel{rnd: rand.New(rand.NewPCG(seed, 2)), refuses: map[string]byte{}, ids: map[uint16]uint64{},
		isolated: map[string]time.Time{}, gave: map[string]bool{}, silent: map[string]bool{}, until: map[string]time.Time{}, counts: map[outbox.State]uint64{}, expect: map[uint64]outbox.State{}}
	for i := range 1 + m.rnd.IntN(5) {
		m.topics = append(m.topics, fmt.Sprint("t", i))
	}
	o := persistence.Options{Limits: persistence.Limits{MaxMessages: 60}}
	cfg := outbox.Config{Retry: reliability.Backoff{Min: time.Second, Max: 8 * time.Second, Rand: m.rnd.Float64},
		PoisonAttempts: 2, WhenFull: []outbox.FullPolicy{outbox.Reject, outbox.DropOldest, outbox.DropNewest}[seed%3]}
	if cfg.WhenFull == outbox.DropOldest {
		cfg.StoreDrops, o.Limits.WhenFull = true, persistence.DropOldest
	}
	if seed%2 == 0 {
		cfg.MaxDeferred = 20
	}
	if seed%5 < 2 {
		cfg.OnSessionLost = persistence.FailInFlight
	}
	cfg.Deferred = func(d outbox.Delay) { m.reported = append(m.reported, d) }
	store := persistence.NewMemory(o)
	m.faults = seed%4 == 3
	cfg.Store = &faulty{store, m}
	m.rig = newRig(t, cfg, store)
	m.lose()
	for range steps {
		m.step()
		m.check()
		if t.Failed() {
			t.Fatalf("in a history with seed %d", seed)
		}
	}
	m.finish()
}

func (m *deferModel) step() {
	switch p := m.rnd.IntN(200); {
	case p < 70:
		m.add()
	case p < 125:
		m.answer()
	case p < 145 && m.up == nil:
		m.connect(m.rnd.IntN(8) > 0)
	case p < 150 && m.up != nil:
		m.cut([]byte{0, 0, 0x8B, 0x87, wire.ReasonPacketTooLarge}[m.rnd.IntN(5)])
	case p < 160 && m.up != nil:
		m.cutOver()
	case p < 175:
		m.sleep(time.Duration(m.rnd.IntN(3000)) * time.Millisecond)
	case p < 185:
		topic := m.topics[m.rnd.IntN(len(m.topics))]
		if m.refuses[topic] = 0; m.rnd.IntN(2) == 0 {
			m.refuses[topic] = passing[m.rnd.IntN(len(passing))]
		}
	case p < 188 && !m.unread: // otherwise a refusal is lost with the process
		m.restart(m.rnd.IntN(2) == 0)
	case p < 190 && m.up == nil:
		// A connection that ends before messages may be sent on it.
		m.begin(m.rnd.IntN(2) > 0)
		m.s.Detach(m.g)
		m.up = nil
	case p < 192 && m.up != nil:
		m.breakOff()
	case p < 195 && m.faults && m.failing == "":
		m.fail()
	}
}

// fail makes an operation of the store fail during some steps.
func (m *deferModel) fail() {
	m.setFailing([]string{"Get", "Next", "SetSent", "Sync"}[m.rnd.IntN(4)])
	for range 1 + m.rnd.IntN(6) {
		m.step()
		synctest.Wait()
		m.look()
		if m.t.Failed() {
			return
		}
	}
	m.setFailing("")
	m.unread = false
	m.sleep(1100 * time.Millisecond) // after an error, the outbox waits a second before it uses the store again
}

func (m *deferModel) setFailing(op string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failing = op
}

// faulty is a store with one operation that may fail.
type faulty struct {
	*persistence.Memory
	m *deferModel
}

var errFaulty = errors.New("the store fails")

func (s *faulty) fails(op string) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.m.failing == op {
		return errFaulty
	}
	return nil
}

func (s *faulty) Get(seq uint64, e *persistence.Entry) (bool, error) {
	if err := s.fails("Get"); err != nil {
		return false, err
	}
	return s.Memory.Get(seq, e)
}

func (s *faulty) Next(c *persistence.Cursor, e *persistence.Entry) (bool, error) {
	if err := s.fails("Next"); err != nil {
		return false, err
	}
	return s.Memory.Next(c, e)
}

func (s *faulty) SetSent(p persistence.Priority, number uint64) error {
	if err := s.fails("SetSent"); err != nil {
		return err
	}
	return s.Memory.SetSent(p, number)
}

func (s *faulty) Sync() error {
	if err := s.fails("Sync"); err != nil {
		return err
	}
	return s.Memory.Sync()
}

func (s *faulty) Defer(seq uint64, d persistence.Deferral) error {
	if err := s.fails("Defer"); err != nil {
		return err
	}
	return s.Memory.Defer(seq, d)
}

// breakOff makes all writes to the connection fail from now on. The server may still answer.
func (m *deferModel) breakOff() {
	m.c.mu.Lock()
	m.c.over = true
	m.c.mu.Unlock()
	m.up.broken = true
	m.o.Wake()
}

// offered finds the messages that were offered on a connection after writes to it failed. The
// outbox may or may not regard them as sent.
func (m *deferModel) offered(c *deferConn) {
	for _, one := range m.pending(func(one *deferMessage) bool { return c.broken && !c.here[one.n] }) {
		var e persistence.Entry
		ok, err := m.store.Get(one.seq, &e)
		id := max(one.id, e.Deferral.PacketID)
		if id == 0 {
			id = session.PacketID(uint8(one.priority), one.number)
		}
		if by := m.ids[id]; ok && err == nil && m.g.InUse(id) && (by == 0 || by == one.n) {
			c.unsure[one.n] = true
			one.unsure, one.unplaced = one.unsure || one.id == 0, one.unplaced || one.order == 0
		}
	}
}

func (m *deferModel) add() {
	n := uint64(len(m.list)) + 1
	one := &deferMessage{n: n, topic: m.topics[m.rnd.IntN(len(m.topics))], qos: 1 + byte(m.rnd.IntN(2)),
		priority: persistence.Priority(max(m.rnd.IntN(6)-3, 0)), process: m.process, poisonous: m.rnd.IntN(12) == 0}
	d := on(one.topic, n, one.qos)
	d.Priority, d.OnSessionLost = one.priority, persistence.SessionLostPolicy(m.rnd.IntN(3))
	one.fails = d.OnSessionLost == persistence.FailInFlight || d.OnSessionLost == persistence.AsConfigured && m.cfg.OnSessionLost == persistence.FailInFlight
	if m.rnd.IntN(6) == 0 {
		one.key = one.topic
		d.Key = one.key
	}
	if m.rnd.IntN(5) == 0 {
		d.Expiry = time.Duration(1+m.rnd.IntN(20)) * second
		one.expires = time.Now().Add(d.Expiry)
	}
	one.until, one.alone = m.isolated[one.queueKey()]
	one.w = new(outbox.Waiter)
	last := m.store.LastSeq()
	one.seq, one.number = last+1, m.numbers[one.priority]+1
	if one.priority == persistence.Normal {
		one.number = last + 1
	}
	m.list = append(m.list, one) // it may be sent before Add returns
	m.numbers[one.priority]++
	err := m.o.Add(context.Background(), d, one.w)
	synctest.Wait()
	if m.store.LastSeq() != last {
		if err != nil {
			m.t.Errorf("Add of a stored message returned %v", err)
		}
		return
	}
	m.list = m.list[:n-1]
	m.numbers[one.priority]--
	m.look()
	if full := errors.Is(err, persistence.ErrFull); full == (m.cfg.WhenFull == outbox.DropNewest) {
		m.t.Errorf("Add of a message that is not stored returned %v", err)
	}
}

// sleep lets time pass. The send loop may use the model meanwhile; the lock of look orders these
// accesses.
func (m *deferModel) sleep(d time.Duration) {
	m.look()
	time.Sleep(d)
	synctest.Wait()
	m.look()
}

func (m *deferModel) pending(match func(*deferMessage) bool) (list []*deferMessage) {
	for _, one := range m.list {
		if one.end == nil && match(one) {
			list = append(list, one)
		}
	}
	return list
}

// answer makes the server answer a message.
func (m *deferModel) answer() {
	if m.up == nil {
		return
	}
	list := m.pending(func(one *deferMessage) bool { return m.up.here[one.n] && (!one.poisonous || one.released) })
	if len(list) == 0 {
		return
	}
	one := list[m.rnd.IntN(len(list))]
	code := m.refuses[one.topic]
	if code == 0 && m.rnd.IntN(12) == 0 {
		code = passing[m.rnd.IntN(len(passing))]
	} else if m.rnd.IntN(40) == 0 {
		code = final
	}
	m.answerOne(one, code)
}

func (m *deferModel) answerOne(one *deferMessage, code byte) {
	kind, last := wire.PUBACK, true
	if one.released {
		kind, code = wire.PUBCOMP, 0
	} else if one.qos == 2 {
		kind, last = wire.PUBREC, code >= 0x80
	}
	id, reports := one.id, len(m.reported)
	if last {
		if one.alone && !one.taken {
			m.reopen(one.queueKey())
		}
		delete(m.up.here, one.n)
		delete(m.ids, one.id)
		one.id, one.order, one.cuts, one.alone, one.unplaced = 0, 0, 0, false, false
		m.up.acked++
		switch code {
		case 0:
			m.expect[one.n] = outbox.Acked
		case final:
			m.expect[one.n] = outbox.Refused
		case wire.ReasonPacketIDInUse:
			one.last = id
		}
	} else {
		one.released = true
	}
	m.acking = one.n
	m.ack(kind, id, code)
	m.acking = 0
	m.look()
	switch {
	case !last || code == 0 || code == final:
	case one.end != nil && one.end.State != outbox.Dropped && one.end.State != outbox.Expired:
		m.t.Errorf("message %d (%+v) ended at a refusal with 0x%02X: %+v", one.n, *one, code, *one.end)
	case m.failing != "":
		m.unread, one.lost = true, true // others may overtake it until it is read
	case !slices.ContainsFunc(m.reported[reports:], func(d outbox.Delay) bool {
		return binary.BigEndian.Uint64(d.ID[:]) == one.n && d.Code == code && !d.Alone
	}):
		m.t.Errorf("the refusal of message %d with 0x%02X was not reported: %+v", one.n, code, m.reported[reports:])
	}
}

// reopen ends the isolation of a topic, because the server has answered one of its messages.
func (m *deferModel) reopen(queueKey string) {
	if _, isolated := m.isolated[queueKey]; !isolated {
		return
	}
	delete(m.isolated, queueKey)
	delete(m.silent, queueKey)
	for _, one := range m.pending(func(one *deferMessage) bool { return one.queueKey() == queueKey }) {
		one.alone, one.kept = false, one.id != 0
	}
}

// emptied ends the isolation of a topic if none of its messages is deferred.
func (m *deferModel) emptied(queueKey string) {
	if len(m.pending(func(one *deferMessage) bool { return one.queueKey() == queueKey && m.isDeferred(one) })) == 0 {
		m.reopen(queueKey)
	}
}

// isGivenUp reports whether a message is given up and has not ended.
func (m *deferModel) isGivenUp(one *deferMessage) bool {
	var e persistence.Entry
	ok, err := m.store.Get(one.seq, &e)
	if ok && err == nil && e.Deferral.GivenUp {
		if !one.givenUp { // the process remembers the topic
			m.gave[one.topic] = true
		}
		one.givenUp, one.alone = true, false
	}
	return one.givenUp
}

func (m *deferModel) isDeferred(one *deferMessage) bool {
	var e persistence.Entry
	ok, err := m.store.Get(one.seq, &e)
	return ok && err == nil && !e.Deferral.Since.IsZero() && !e.Deferral.GivenUp
}

// isolate makes all messages of a topic sent alone until a time.
func (m *deferModel) isolate(queueKey string, until time.Time) {
	m.isolated[queueKey] = until
	for _, one := range m.pending(func(one *deferMessage) bool { return one.queueKey() == queueKey && !one.released }) {
		one.alone, one.until = true, until
	}
}

func (m *deferModel) connect(present bool) {
	m.begin(present)
	m.unknown, m.began = false, time.Now()
	m.o.Connected(m.g)
	synctest.Wait()
	m.look()
}

func (m *deferModel) begin(present bool) {
	if present = present || m.failing != ""; !present { // otherwise the connection would end
		m.lose()
	}
	limits := session.Limits{ReceiveMaximum: uint16(1 + m.rnd.IntN(12)), MaximumQoS: 2, RetainAvailable: true}
	m.up = &deferConn{limits: limits, here: map[uint64]bool{}, unsure: map[uint64]bool{}}
	m.s.Begin(present)
	m.c = &conn{onSend: m.sent}
	m.g = m.s.Attach(m.c, limits)
	for _, one := range m.pending(func(one *deferMessage) bool { return one.released }) {
		m.up.here[one.n] = true
	}
}

// lose makes the server lose the session.
func (m *deferModel) lose() {
	failing := m.pending(func(one *deferMessage) bool { return one.id != 0 && one.fails && !m.isGivenUp(one) })
	m.s.Begin(false)
	m.lostNow, m.unknown = true, true
	if err := m.o.ResetSession("owner", m.s.Unacked()); err != nil {
		m.t.Fatal(err)
	}
	m.look()
	m.lostNow = false
	m.o.NewSession()
	for _, one := range failing {
		if one.end == nil {
			m.t.Errorf("message %d (%+v) was in flight and did not fail with its session", one.n, *one)
		}
	}
	for _, one := range m.list {
		one.lost = one.lost || one.id != 0 || one.unsure || m.maybeEarlier(one)
		if until, isolated := m.isolated[one.queueKey()]; isolated && one.released { // it is sent again with its topic
			one.until, one.alone = until, true
		}
		one.id, one.order, one.released, one.taken, one.unsure, one.unplaced = 0, 0, false, false, false, false
	}
	clear(m.ids)
	m.earlier = [persistence.Priorities]uint64{}
}

// cutOver ends the connection because of a poisonous message, if there is one.
func (m *deferModel) cutOver() {
	if len(m.pending(func(one *deferMessage) bool { return m.up.here[one.n] && one.poisonous && !one.released })) > 0 {
		m.cut([]byte{0, wire.ReasonNotAuthorized}[m.rnd.IntN(2)])
	}
}

func (m *deferModel) cut(reason byte) {
	c := m.up
	m.up = nil
	m.offered(c)
	m.strike(c, reason)
	open := m.pending(func(one *deferMessage) bool { return (c.here[one.n] || c.unsure[one.n]) && !one.released })
	for _, one := range open {
		if reason == wire.ReasonPacketTooLarge {
			m.expect[one.n] = outbox.Refused
		}
	}
	reports := len(m.reported)
	m.rig.cut(reason)
	m.look()
	for _, one := range open {
		if one.end == nil && !m.isGivenUp(one) {
			delete(m.expect, one.n)
		}
	}
	m.judged = reports
	m.judge(c)
	for _, one := range m.pending(func(one *deferMessage) bool { return c.here[one.n] && one.released && one.alone && !one.taken }) {
		m.reopen(one.queueKey()) // its PUBREC on this connection shows that its topic works
		one.taken = true
	}
}

// strike counts the consecutive connections that may have ended because of each message. An end
// without a reason code is no evidence if a message was acknowledged. A message that was isolated
// keeps its count: the next connection that ends because of it isolates it again.
func (m *deferModel) strike(c *deferConn, reason byte) {
	open := m.pending(func(one *deferMessage) bool { return (c.here[one.n] || c.unsure[one.n]) && !one.released })
	blamed := len(open) > 0 && (reason != 0 || c.acked == 0)
	for _, one := range m.pending(func(*deferMessage) bool { return true }) {
		switch {
		case blamed && slices.Contains(open, one):
			one.cuts++
		case blamed || c.acked > 0:
			one.cuts = 0
		}
	}
}

// judge checks the reports of messages that are deferred because connections ended. c is the last
// connection, or nil for an earlier one whose end the outbox could not handle.
func (m *deferModel) judge(c *deferConn) {
	for ; m.judged < len(m.reported); m.judged++ {
		d := m.reported[m.judged]
		one := m.list[binary.BigEndian.Uint64(d.ID[:])-1]
		other := m.gave[one.topic] || len(m.pending(func(o *deferMessage) bool {
			return o != one && o.alone && !o.released && o.queueKey() == one.queueKey()
		})) > 0
		switch {
		case !d.Alone:
			m.t.Errorf("message %d was refused by a connection that ended: %+v", one.n, d)
		case c != nil && (!c.here[one.n] && !c.unsure[one.n] || one.cuts < 2 && !one.alone && !other) || one.released:
			m.t.Errorf("message %d (%+v) is deferred alone", one.n, *one)
		}
		queueKey := one.queueKey()
		_, isolated := m.isolated[queueKey]
		switch {
		case m.gave[one.topic]:
			delete(m.silent, queueKey)
			m.isolate(queueKey, one.until)
		case m.silent[queueKey] && (d.Code != 0 || d.Attempts > silentTrials): // the others of its topic overtake it
			m.reopen(queueKey)
		case m.silent[queueKey]:
			m.isolate(queueKey, one.until)
		case d.Code == 0 && !other && !one.alone && !isolated: // they wait for it
			m.silent[queueKey] = true
			m.isolate(queueKey, one.until)
		case other:
			m.isolate(queueKey, one.until)
		}
		one.alone = true
	}
}

func (m *deferModel) restart(kill bool) {
	if m.up != nil {
		m.cut(0)
	}
	m.stop()
	why := errors.New("closed")
	if !kill {
		m.o.Close(why)
		m.look()
	}
	for _, one := range m.pending(func(*deferMessage) bool { return true }) {
		if r := one.w; !kill && r != nil && (r.Result().State != outbox.Abandoned || r.Result().Err != why) {
			m.t.Errorf("message %d ended as %+v with the process", one.n, r.Result())
		}
		one.w, one.order, one.cuts = nil, 0, 0
	}
	m.store = m.store.Reopen()
	m.cfg.Store = &faulty{m.store, m}
	m.ended, m.seen = nil, 0
	m.start()
	m.process++
	m.earlySeq = m.store.LastSeq()
	for p := range m.earlier {
		m.earlier[p] = m.store.Sent(persistence.Priority(p))
	}
	m.pending(m.isGivenUp)
	clear(m.gave)
	clear(m.isolated)
	clear(m.silent)
	m.restored()
	synctest.Wait()
}

// restored determines which topics are isolated after a restart.
func (m *deferModel) restored() {
	alone, until, silent := map[string]int{}, map[string]time.Time{}, map[string]bool{}
	pending := m.pending(func(*deferMessage) bool { return true })
	for _, one := range pending {
		var e persistence.Entry
		if ok, err := m.store.Get(one.seq, &e); err != nil || !ok {
			continue // the store has dropped it
		}
		d := e.Deferral
		// The server accepted a released message in an earlier process. Its PUBCOMP is no evidence
		// about its topic.
		if one.alone = d.Alone && !d.GivenUp && !one.released; one.alone {
			alone[one.queueKey()]++
			silent[one.queueKey()] = d.Code == 0 && d.Attempts <= silentTrials && (alone[one.queueKey()] == 1 || silent[one.queueKey()])
		}
		if !d.Since.IsZero() {
			if d.Until.After(until[one.queueKey()]) {
				until[one.queueKey()] = d.Until
			}
		}
	}
	for queueKey, n := range alone {
		if n > 1 || silent[queueKey] {
			m.isolate(queueKey, until[queueKey])
			m.silent[queueKey] = silent[queueKey]
		}
	}
}

// deferral returns the store's record of the deferral of a message.
func (m *deferModel) deferral(one *deferMessage) (e persistence.Entry) {
	if ok, err := m.store.Get(one.seq, &e); err != nil || !ok {
		m.t.Errorf("message %d (%+v) is not in the store: %v", one.n, *one, err)
	}
	return e
}

// maybeEarlier reports whether this process must assume that an earlier process has sent the
// message under the identifier of its number.
func (m *deferModel) maybeEarlier(one *deferMessage) bool {
	return one.process < m.process && one.number <= m.earlier[one.priority] && one.seq <= m.earlySeq
}

// keep notes whether a message has kept the packet identifier of its number. That happens if an
// earlier process may have sent it and its topic is isolated. From then on it is like a message
// that was sent under that identifier.
func (m *deferModel) keep(one *deferMessage) {
	var e persistence.Entry
	own := session.PacketID(uint8(one.priority), one.number)
	if ok, err := m.store.Get(one.seq, &e); ok && err == nil && one.id == 0 && e.Deferral.Alone && e.Deferral.PacketID == own && m.maybeEarlier(one) {
		one.id, one.kept, m.ids[own] = own, true, one.n
	}
}

// sent checks a PUBLISH while it is sent.
func (m *deferModel) sent(v wire.PublishView) {
	m.look()
	n := indexOf(v)
	one, c := m.list[n-1], m.up
	fail := func(format string, args ...any) {
		m.t.Errorf("message %d (%+v): %s", n, *one, fmt.Sprintf(format, args...))
	}
	m.emptied(one.queueKey())
	e := m.deferral(one)
	own := session.PacketID(uint8(one.priority), one.number)
	deferred := !e.Deferral.Since.IsZero()
	again := one.id != 0 || !deferred && m.maybeEarlier(one)
	switch {
	case one.end != nil:
		fail("sent after its end %+v", *one.end)
	case c.here[n]:
		fail("sent twice on one connection")
	case one.released:
		fail("sent after its PUBREC")
	case m.ids[v.PacketID] != 0 && m.ids[v.PacketID] != n:
		fail("sent under identifier %d of message %d", v.PacketID, m.ids[v.PacketID])
	case one.id != 0 && v.PacketID != one.id:
		fail("resent under identifier %d", v.PacketID)
	case one.last == v.PacketID:
		fail("sent again under identifier %d after 0x91", v.PacketID)
	case v.Dup != again && !one.unsure:
		fail("DUP is %v; the store has %+v", v.Dup, e.Deferral)
	case deferred && e.Deferral.PacketID != v.PacketID || !deferred && (v.PacketID != own || m.store.Sent(one.priority) < one.number):
		fail("sent under identifier %d, the store knows %+v, and the watermark is %d", v.PacketID, e.Deferral, m.store.Sent(one.priority))
	}
	m.inWindow(one, fail)
	m.inOrder(one, again || one.unsure, fail)
	one.unsure = false
	c.here[n], one.id, m.ids[v.PacketID] = true, v.PacketID, n
	c.sent++
	if one.order == 0 {
		m.orders++
		one.order = m.orders
	}
}

// inWindow checks that a message has room, and that a message that must be sent alone is alone.
func (m *deferModel) inWindow(one *deferMessage, fail func(string, ...any)) {
	c := m.up
	window := int(c.limits.ReceiveMaximum)
	if limit := m.o.Window(); limit > 0 {
		window = min(window, limit)
	}
	if len(c.here) >= window {
		fail("%d are in flight, the window is %d", len(c.here), window)
	}
	if one.alone {
		if len(c.here) > 0 {
			fail("sent alone while %d others are in flight", len(c.here))
		}
		if waiting := m.pending(func(o *deferMessage) bool { return o.n != one.n && m.deferral(o).Deferral.Since.IsZero() }); c.acked == 0 && len(waiting) > 0 {
			fail("sent alone before message %d, and nothing was acknowledged", waiting[0].n)
		}
	}
	for n := range c.here {
		if o := m.list[n-1]; o.alone && !o.released {
			fail("sent beside message %d, which is alone", n)
		}
	}
}

// inOrder checks that resends have the order of sending, and other messages the order of each topic
// and priority.
func (m *deferModel) inOrder(one *deferMessage, again bool, fail func(string, ...any)) {
	switch {
	case one.alone || one.kept || one.unplaced:
	case one.order > 0 && again:
		if one.order < m.up.resent {
			fail("resent after one that was sent later")
		}
		m.up.resent = one.order
	case !again:
		if left := m.pending(func(o *deferMessage) bool {
			return o.order > 0 && o.id != 0 && !m.up.here[o.n] && !o.alone && !o.kept && !o.givenUp && !o.released
		}); len(left) > 0 {
			fail("sent before message %d is resent", left[0].n)
		}
		for _, o := range m.pending(func(o *deferMessage) bool {
			return o.n < one.n && o.topic == one.topic && o.priority == one.priority && o.id == 0 && !o.alone && !o.lost && !o.unsure && !o.givenUp && o.n != m.acking
		}) {
			if e := m.deferral(o); !e.Deferral.Since.IsZero() || !m.maybeEarlier(o) {
				fail("sent before message %d (%+v, %+v)", o.n, *o, e.Deferral)
			}
		}
	}
}

func (m *deferModel) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; m.seen < len(m.ended); m.seen++ {
		m.end(m.ended[m.seen])
	}
	for i := range m.reported {
		if d := &m.reported[i]; d.For > 0 {
			one := m.list[binary.BigEndian.Uint64(d.ID[:])-1]
			until := time.Now().Add(d.For)
			if d.For = 0; d.Alone {
				one.until = until
			} else if queueKey := one.queueKey(); until.After(m.until[queueKey]) {
				m.until[queueKey] = until
			}
		}
	}
}

func (one *deferMessage) queueKey() string { return fmt.Sprint(one.priority, one.topic) }

func (m *deferModel) end(e outbox.End) {
	n := binary.BigEndian.Uint64(e.ID[:])
	if n == 0 { // of an earlier process: the store has dropped it, or its PUBCOMP was received
		list := m.pending(func(one *deferMessage) bool {
			ok, _ := m.store.Get(one.seq, new(persistence.Entry))
			return !ok && one.process < m.process && (e.State != outbox.Acked || m.expect[one.n] == outbox.Acked) &&
				!slices.ContainsFunc(m.ended[m.seen:], func(e outbox.End) bool { return binary.BigEndian.Uint64(e.ID[:]) == one.n })
		})
		if len(list) == 0 {
			m.t.Errorf("an unknown message ended: %+v", e)
			return
		}
		n = list[0].n
	}
	if n > uint64(len(m.list)) {
		return // DropNewest
	}
	one := m.list[n-1]
	fail := func(why string) { m.t.Errorf("message %d (%+v) ended as %+v: %s", n, *one, e, why) }
	if one.end != nil {
		fail("a second time")
		return
	}
	one.end = &e
	m.counts[e.State]++
	if one.w != nil {
		if r := one.w.Result(); r.State != e.State || r.Err != e.Err {
			fail(fmt.Sprintf("the waiter has %+v", r))
		}
	}
	if e.Cause == outbox.Poison && !one.givenUp {
		m.gave[one.topic] = true
	}
	switch e.Cause {
	case outbox.ByServer, outbox.Poison:
		if m.expect[n] != e.State {
			fail(fmt.Sprintf("want %v", m.expect[n]))
		}
	case outbox.TimePassed:
		if one.expires.IsZero() || time.Until(one.expires) > time.Millisecond || one.order > 0 && one.id != 0 || one.qos == 2 && one.id != 0 {
			fail("it must not expire")
		}
	case outbox.StoreFull, outbox.Replaced:
		if one.id != 0 {
			fail("it may have been sent")
		}
	case outbox.SessionLost:
		if !m.lostNow || !one.fails || one.id == 0 && !m.maybeEarlier(one) && !one.unsure {
			fail("it is published again in the next session")
		}
	default:
		fail("why?")
	}
	delete(m.ids, one.id)
	if m.up != nil {
		delete(m.up.here, n)
	}
}

// check compares the totals, and checks that all messages that can be sent are in flight.
func (m *deferModel) check() {
	m.t.Helper()
	synctest.Wait()
	if m.up != nil {
		m.answerPurges(func(id uint16) uint64 {
			if n := m.ids[id]; n != 0 && !m.isGivenUp(m.list[n-1]) {
				return n
			}
			return 0
		})
		m.offered(m.up)
	}
	m.look()
	for ; m.judged < len(m.reported); m.judged++ {
		if m.reported[m.judged].Alone { // the store had failed
			m.judge(nil)
			break
		}
	}
	for _, one := range m.pending(func(*deferMessage) bool { return true }) {
		m.keep(one)
	}
	st := m.store.Stats()
	pending := m.pending(func(*deferMessage) bool { return true })
	m.counts[outbox.Pending] = uint64(len(pending))
	got := map[outbox.State]uint64{outbox.Acked: st.Acked, outbox.Refused: st.Refused, outbox.Expired: st.Expired,
		outbox.Dropped: st.Dropped, outbox.DeadLettered: st.DeadLettered, outbox.Pending: st.Pending}
	for state, n := range got {
		if n != m.counts[state] {
			m.t.Errorf("state %d: the store counts %d messages, want %d", state, n, m.counts[state])
		}
	}
	released := m.pending(func(one *deferMessage) bool { return one.released })
	if d := m.o.Deferred(); uint64(d.Messages) > st.Deferred || d.Messages+len(released) < int(st.Deferred) {
		m.t.Errorf("%d messages are deferred, in the store %d, %d released", d.Messages, st.Deferred, len(released))
	}
	for _, one := range pending {
		if m.isGivenUp(one) && m.up != nil {
			m.t.Errorf("message %d (%+v) is given up, its packet identifier is purged, and it is pending", one.n, *one)
		}
		if late := min(time.Since(one.expires), time.Since(m.began)); !one.expires.IsZero() && late > second && one.id == 0 && !one.unsure && !m.unknown && !m.maybeEarlier(one) {
			m.t.Errorf("message %d (%+v) is pending %v after its time", one.n, *one, late)
		}
	}
	if open := m.o.Open(); open > len(pending) {
		m.t.Errorf("%d messages are open, %d are pending", open, len(pending))
	}
	for queueKey := range m.isolated {
		m.emptied(queueKey)
	}
	m.flowing(pending)
}

// flowing checks that each message that may be sent is in flight, if there is room.
func (m *deferModel) flowing(pending []*deferMessage) {
	c := m.up
	if c == nil || c.broken {
		return
	}
	window := int(c.limits.ReceiveMaximum)
	if limit := m.o.Window(); limit > 0 {
		window = min(window, limit)
	}
	if len(c.here) >= window {
		return
	}
	for _, one := range pending { // a message that is sent alone, or is about to be
		if one.alone && (c.here[one.n] || time.Until(one.until) < time.Millisecond) {
			return
		}
		// A later process knows the times of the remaining messages.
		if x := m.deferral(one).Deferral; m.process > 0 && x.Alone && time.Until(x.Until) < time.Millisecond {
			return
		}
	}
	for _, one := range pending {
		if c.here[one.n] || one.alone || one.givenUp || (one.id == 0 || one.kept) && time.Now().Before(m.until[one.queueKey()]) {
			continue
		}
		// Others of its topic may be in flight.
		if one.id != 0 && !one.kept || !slices.ContainsFunc(pending, func(o *deferMessage) bool { return o.queueKey() == one.queueKey() && !o.alone && c.here[o.n] }) {

			m.t.Errorf("message %d (%+v, %+v) is not in flight; %d are, the window is %d", one.n, *one, m.deferral(one).Deferral, len(c.here), window)
		}
	}
}

// finish makes the server accept all messages.
func (m *deferModel) finish() {
	if m.up != nil {
		m.cut(0)
	}
	clear(m.refuses)
	for _, one := range m.list {
		one.poisonous = false
	}
	m.connect(true)
	began := time.Now()
	for len(m.pending(func(*deferMessage) bool { return true })) > 0 && time.Since(began) < 20*second && !m.t.Failed() {
		for _, one := range m.pending(func(one *deferMessage) bool { return m.up.here[one.n] }) {
			m.answerOne(one, 0)
		}
		m.check()
		m.sleep(second / 10)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), second)
	defer cancel()
	if err := m.o.WaitIdle(ctx); err != nil || m.o.Open() > 0 || m.o.Deferred().Messages != 0 {
		m.t.Errorf("WaitIdle returned %v; %d messages are open, and deferred: %+v", err, m.o.Open(), m.o.Deferred())
		for _, one := range m.pending(func(*deferMessage) bool { return true }) {
			m.t.Errorf("message %d (%+v) is pending: %+v", one.n, *one, m.deferral(one).Deferral)
		}
	}
	if took := time.Since(began); took > 17*second {
		m.t.Errorf("everything was delivered after %v", took)
	}
	if len(m.failed) > 0 && !m.faults {
		m.t.Errorf("the store failed: %v", m.failed)
	}
}
