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
)

// model checks an outbox after a random history. It sees what a server sees, the packets of each
// connection, and what an application sees, the results.
type model struct {
	*rig
	rnd      *rand.Rand
	messages []*modelMessage // accepted messages, by n-1
	process  int
	numbers  [persistence.Priorities]uint64 // accepted messages of each priority
	earlier  [persistence.Priorities]uint64 // the store's watermarks when this process began; 0 once the session is lost
	highest  [persistence.Priorities]uint64 // the highest Number sent in this session
	sends    int                            // messages sent first by this process
	began    time.Time                      // start of the session
	lost     int                            // ends with SessionLost
	acking   uint64                         // the message that is acknowledged
	seen     int                            // ends that were checked
	counts   map[outbox.State]uint64
	conn     *modelConn
	expect   map[uint64]outbox.End // ends that an acknowledgement must cause

	candidate uint64
	strikes   int
}

type modelMessage struct {
	n, seq, number uint64

	priority persistence.Priority
	qos      byte
	key      string
	fails    bool // with its session
	expires  time.Time
	process  int // that accepted it
	w        *outbox.Waiter
	wire     bool // sent in this session
	order    int  // position in the order of sending, in this session and process
	released bool
	givenUp  bool // it ends when its packet identifier is purged
	end      *outbox.End
}

type modelConn struct {
	limits   session.Limits
	here     map[uint64]bool   // sent on this connection
	inFlight map[uint16]uint64 // packet identifiers in use
	resent   int               // order of the last resend
	first    uint64            // n of the first message; 0: none, or a PUBREL
	started  bool
	acked    bool
	passed   int // the highest order of an acknowledged message
}

const poisonAttempts = 3

// TestOutbox_AgainstModel applies random histories: add, acknowledge, refuse, cut,
// restart, lose the session, expire, drop. No message is deferred here.
func TestOutbox_AgainstModel(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { runModel(t, seed, 500) })
		})
	}
}

func runModel(t *testing.T, seed uint64, steps int) {
	o := persistence.Options{Limits: persistence.Limits{MaxMessages: 40}}
	cfg := outbox.Config{WhenFull: outbox.FullPolicy(seed % 4), PoisonAttempts: poisonAttempts, DeadLetters: seed%3 == 0, Rules: finalRefusals}
	switch cfg.WhenFull {
	case outbox.Block:
		cfg.WhenFull = outbox.Reject // with another policy, Add would block forever
	case outbox.DropOldest:
		cfg.StoreDrops, o.Limits.WhenFull = true, persistence.DropOldest
	}
	if seed%5 < 2 {
		cfg.OnSessionLost = persistence.FailInFlight
	}
	m := &model{rnd: rand.New(rand.NewPCG(seed, 1)), counts: map[outbox.State]uint64{}, expect: map[uint64]outbox.End{}}
	m.rig = newRig(t, cfg, persistence.NewMemory(o))
	m.lose() // a session begins
	for range steps {
		switch p := m.rnd.IntN(100); {
		case p < 45:
			m.add()
		case p < 70:
			m.acknowledge()
		case p < 80 && m.conn == nil:
			m.connect(m.rnd.IntN(4) > 0)
		case p < 88 && m.conn != nil:
			m.cut([]byte{0, 0x8B, 0x95, 0x95, 0x95}[m.rnd.IntN(5)])
		case p < 94:
			time.Sleep(time.Duration(m.rnd.IntN(4000)) * time.Millisecond)
		case p < 98:
			m.restart(m.rnd.IntN(2) == 0)
		}
		m.check()
		if t.Failed() {
			t.Fatalf("at the end of a history with seed %d", seed)
		}
	}
	m.finish()
}

func (m *model) add() {
	n := uint64(len(m.messages)) + 1
	one := &modelMessage{n: n, qos: 1 + byte(m.rnd.IntN(2)), priority: persistence.Priority(m.rnd.IntN(3)), process: m.process}
	d := on(fmt.Sprint("t/", n), n, one.qos) // separate topics, so that no topic is blamed for another message
	d.Priority, d.OnSessionLost = one.priority, persistence.SessionLostPolicy(m.rnd.IntN(3))
	one.fails = d.OnSessionLost == persistence.FailInFlight || d.OnSessionLost == persistence.AsConfigured && m.cfg.OnSessionLost == persistence.FailInFlight
	if m.rnd.IntN(4) == 0 {
		one.key = string(rune('a' + m.rnd.IntN(3)))
		d.Key = one.key
	}
	if m.rnd.IntN(3) == 0 {
		d.Expiry = time.Duration(1+m.rnd.IntN(8)) * second
		one.expires = time.Now().Add(d.Expiry)
	}
	one.w = new(outbox.Waiter)
	last := m.store.LastSeq()
	// A message that is sent at once is in the model before Add returns.
	m.messages = append(m.messages, one)
	one.seq, one.number = last+1, m.numbers[one.priority]+1
	if one.priority == persistence.Normal {
		one.number = last + 1
	}
	err := m.o.Add(context.Background(), d, one.w)
	synctest.Wait()
	if m.store.LastSeq() == last { // it was not accepted
		m.messages = m.messages[:n-1]
		if full := errors.Is(err, persistence.ErrFull); full == (m.cfg.WhenFull == outbox.DropNewest) {
			m.t.Errorf("Add of a message that is not stored returned %v", err)
		}
		if err == nil {
			wantState(m.t, one.w, outbox.Dropped)
			m.seen++
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.numbers[one.priority]++
}

// isGivenUp reports whether a message is given up and has not ended.
func (m *model) isGivenUp(one *modelMessage) bool {
	var e persistence.Entry
	ok, err := m.store.Get(one.seq, &e)
	one.givenUp = one.givenUp || ok && err == nil && e.Deferral.GivenUp
	return one.givenUp
}

// pending returns the messages without a result that match.
func (m *model) pending(match func(*modelMessage) bool) (list []*modelMessage) {
	for _, one := range m.messages {
		if one.end == nil && match(one) {
			list = append(list, one)
		}
	}
	return list
}

func (m *model) acknowledge() {
	if m.conn == nil {
		return
	}
	list := m.pending(func(one *modelMessage) bool { return m.conn.here[one.n] })
	if len(list) == 0 {
		return
	}
	m.acknowledgeOne(list[m.rnd.IntN(len(list))], []byte{0, 0, 0, wire.ReasonNoMatchingSubscribers, wire.ReasonNotAuthorized, wire.ReasonQuotaExceeded}[m.rnd.IntN(6)])
}

func (m *model) acknowledgeOne(one *modelMessage, reason byte) {
	kind, final := wire.PUBACK, true
	if one.released {
		kind, reason = wire.PUBCOMP, 0
	} else if one.qos == 2 {
		kind, final = wire.PUBREC, reason >= 0x80
	}
	id := session.PacketID(uint8(one.priority), one.number)
	if final {
		e := outbox.End{State: outbox.Acked, Reason: reason}
		if reason >= 0x80 {
			if e.State = outbox.Refused; m.cfg.DeadLetters {
				e.State = outbox.DeadLettered
			}
		}
		m.expect[one.n] = e
		m.conn.acked, m.conn.passed = true, max(m.conn.passed, one.order)
		delete(m.conn.inFlight, id)
	} else {
		one.released = true
	}
	m.acking = one.n
	m.ack(kind, id, reason)
	m.look()
}

func (m *model) connect(present bool) {
	limits := session.Limits{ReceiveMaximum: uint16(1 + m.rnd.IntN(12)), MaximumQoS: 2, RetainAvailable: true}
	if m.rnd.IntN(10) == 0 {
		limits.MaximumQoS = 1
	}
	m.connectWith(present, limits)
}

func (m *model) connectWith(present bool, limits session.Limits) {
	if !present {
		m.lose()
	}
	m.conn = &modelConn{limits: limits, here: map[uint64]bool{}, inFlight: map[uint16]uint64{}}
	for _, one := range m.pending(func(one *modelMessage) bool { return one.released }) {
		m.conn.started, m.conn.here[one.n] = true, true
		m.conn.inFlight[session.PacketID(uint8(one.priority), one.number)] = one.n
	}
	if m.s.Begin(present) != !present {
		m.t.Error("the session is lost, or not")
	}
	m.c = &conn{onSend: m.sent}
	m.g = m.s.Attach(m.c, limits)
	m.o.Connected(m.g)
	synctest.Wait()
}

// lose makes the server lose the session. Messages in flight fail, or are sent again like new ones.
func (m *model) lose() {
	failing := m.pending(func(one *modelMessage) bool { return one.wire && one.fails && !m.isGivenUp(one) })
	again := m.pending(func(one *modelMessage) bool { return one.wire && !one.fails && !m.isGivenUp(one) })
	lost := m.lost
	m.s.Begin(false)
	if err := m.o.ResetSession("owner", m.s.Unacked()); err != nil {
		m.t.Fatal(err)
	}
	m.look()
	got := m.o.NewSession()
	if got.Failed != m.lost-lost || got.Failed < len(failing) || got.Republished < len(again) {
		m.t.Errorf("lost %+v; %d failed, at least %d must, and %d are published again", got, m.lost-lost, len(failing), len(again))
	}
	for _, one := range failing {
		if one.end == nil {
			m.t.Errorf("message %d was in flight and did not fail with its session", one.n)
		}
	}
	for _, one := range m.messages {
		one.wire, one.order, one.released = false, 0, false
	}
	m.earlier, m.highest, m.began = [persistence.Priorities]uint64{}, [persistence.Priorities]uint64{}, time.Now()
	m.g = m.s.Attach(&conn{}, session.Limits{})
	m.s.Detach(m.g)
}

func (m *model) cut(reason byte) {
	c := m.conn
	m.conn = nil
	first, poisoned := uint64(0), uint64(0)
	for _, one := range m.pending(func(one *modelMessage) bool { return c.here[one.n] && !one.released }) {
		if first == 0 || one.order < m.messages[first-1].order {
			first = one.n
		}
	}
	switch {
	case first == 0 || reason == 0 && c.acked || m.messages[first-1].order < c.passed:
		if c.acked {
			m.candidate, m.strikes = 0, 0
		}
	default:
		if first != m.candidate {
			m.candidate, m.strikes = first, 0
		}
		if m.strikes++; m.strikes >= poisonAttempts {
			reason = wire.ReasonPacketTooLarge // any other reason would defer the message
			poisoned = first
			e := outbox.End{State: outbox.Refused, Reason: reason, Cause: outbox.Poison, Attempts: m.strikes}
			if m.cfg.DeadLetters {
				e.State = outbox.DeadLettered
			}
			m.expect[first] = e
		}
	}
	m.rig.cut(reason)
	m.look()
	if poisoned > 0 && m.messages[poisoned-1].end == nil && !m.isGivenUp(m.messages[poisoned-1]) {
		m.t.Errorf("message %d ended %d connections and is pending", poisoned, m.strikes)
	}
}

// restart ends the process, cleanly or not, and starts another one.
func (m *model) restart(kill bool) {
	if m.conn != nil {
		m.cut(0)
	}
	m.stop()
	why := errors.New("closed")
	if !kill {
		m.o.Close(why)
		for p, highest := range m.highest {
			if got, want := m.store.Sent(persistence.Priority(p)), max(highest, m.earlier[p]); got != want {
				m.t.Errorf("the watermark of priority %d is %d after Close, want %d", p, got, want)
			}
		}
	}
	for _, one := range m.pending(func(one *modelMessage) bool { return one.w != nil }) {
		if r := one.w.Result(); !kill && (r.State != outbox.Abandoned || r.Err != why) {
			m.t.Errorf("message %d ended as %+v with the process", one.n, r)
		}
		one.w = nil
	}
	m.store = m.store.Reopen()
	m.ended, m.seen = nil, 0
	m.start()
	m.process++
	m.candidate, m.strikes, m.sends = 0, 0, 0
	for p := range m.earlier {
		m.earlier[p] = m.store.Sent(persistence.Priority(p))
		if m.highest[p] > m.earlier[p] {
			m.t.Errorf("priority %d: messages up to %d were sent, the store knows of %d", p, m.highest[p], m.earlier[p])
		}
	}
	for _, one := range m.messages {
		one.order = 0
	}
	synctest.Wait()
}

// maybeEarlier reports whether this process must assume that an earlier process has sent the
// message.
func (m *model) maybeEarlier(one *modelMessage) bool {
	return one.process < m.process && one.number <= m.earlier[one.priority]
}

// sent checks a PUBLISH while it is sent. It first checks the ends reported before.
func (m *model) sent(v wire.PublishView) {
	m.look()
	n := indexOf(v)
	one, c := m.messages[n-1], m.conn
	fail := func(format string, args ...any) {
		m.t.Errorf("message %d (%+v): %s", n, *one, fmt.Sprintf(format, args...))
	}
	id := session.PacketID(uint8(one.priority), one.number)
	switch {
	case one.end != nil:
		fail("sent after its end %+v", *one.end)
	case c.here[n]:
		fail("sent twice on one connection")
	case one.released:
		fail("sent after its PUBREC")
	case v.PacketID != id || c.inFlight[id] > 0:
		fail("sent under identifier %d, want %d; in use: %v", v.PacketID, id, c.inFlight)
	case one.qos > c.limits.MaximumQoS:
		fail("sent above the Maximum QoS")
	case m.store.Sent(one.priority) < one.number:
		fail("sent before the store knows; the watermark is %d", m.store.Sent(one.priority))
	case !v.Dup && one.key != "" && one.process == m.process && slices.ContainsFunc(m.messages[n:], func(o *modelMessage) bool { return o.key == one.key && m.accepted(o) }):
		fail("sent although a newer message replaced it")
	case v.Dup != (one.order > 0 || m.maybeEarlier(one)) || one.wire && !v.Dup:
		fail("DUP is %v", v.Dup)
	}
	window := int(c.limits.ReceiveMaximum)
	if c.inFlight[id] = n; len(c.inFlight) > window {
		fail("%d in flight, Receive Maximum is %d", len(c.inFlight), window)
	}
	m.inOrder(one, fail)
	if !c.started {
		c.started, c.first = true, n
	}
	c.here[n], one.wire = true, true
	if one.order == 0 {
		m.sends++
		one.order = m.sends
	}
	m.highest[one.priority] = max(m.highest[one.priority], one.number)
}

// inOrder checks that resends come first, in the order of sending, and then each priority in the
// order of acceptance.
func (m *model) inOrder(one *modelMessage, fail func(string, ...any)) {
	c := m.conn
	if one.order > 0 {
		if one.order < c.resent {
			fail("resent after one that was sent later")
		}
		c.resent = one.order
		return
	}
	if left := m.pending(func(o *modelMessage) bool { return o.order > 0 && !c.here[o.n] && !m.isGivenUp(o) }); len(left) > 0 {
		fail("sent before message %d is resent", left[0].n)
	}
	if left := m.pending(func(o *modelMessage) bool {
		return !c.here[o.n] && o.n != one.n && (o.priority > one.priority || o.priority == one.priority && o.n < one.n) && m.accepted(o) && !m.isGivenUp(o)
	}); len(left) > 0 {
		fail("sent before message %d of priority %d", left[0].n, left[0].priority)
	}
}

// accepted reports whether the store has the message. The newest message may still be on its way.
func (m *model) accepted(one *modelMessage) bool {
	return one.number <= m.numbers[one.priority] || one.priority == persistence.Normal && one.number <= m.store.LastSeq()
}

// look checks the ends reported since the last call.
func (m *model) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for ; m.seen < len(m.ended); m.seen++ {
		m.end(m.ended[m.seen])
	}
}

func (m *model) end(e outbox.End) {
	n := binary.BigEndian.Uint64(e.ID[:])
	if n == 0 && e.State == outbox.Acked { // an earlier process received its PUBREC
		n = m.acking
	}
	if n == 0 { // of an earlier process, dropped by the store
		named := func(one *modelMessage) bool { // an End that is checked later has named it
			return slices.ContainsFunc(m.ended[m.seen:], func(e outbox.End) bool { return binary.BigEndian.Uint64(e.ID[:]) == one.n })
		}
		dropped := m.pending(func(one *modelMessage) bool { return one.process < m.process && m.gone(one) && !named(one) })
		if e.State != outbox.Dropped || len(dropped) == 0 {
			m.t.Errorf("an unknown message ended: %+v", e)
			return
		}
		n = dropped[0].n
	}
	if n > uint64(len(m.messages)) {
		return // dropped by DropNewest; add counts it
	}
	one := m.messages[n-1]
	fail := func(why string) { m.t.Errorf("message %d (%+v) ended as %+v: %s", n, *one, e, why) }
	if one.end != nil {
		fail("a second time")
	}
	one.end = &e
	m.counts[e.State]++
	if one.w != nil {
		if r := one.w.Result(); r.State != e.State || r.Reason != e.Reason || r.Err != e.Err {
			fail(fmt.Sprintf("the waiter has %+v", r))
		}
	}
	switch want := m.expect[n]; e.Cause {
	case outbox.ByServer, outbox.Poison:
		if e.State != want.State || e.Reason != want.Reason || e.Attempts != want.Attempts || e.Cause != want.Cause || (e.Err == nil) != (e.State == outbox.Acked) {
			fail(fmt.Sprintf("want %+v", want))
		}
	case outbox.ByLimit:
		if !one.givenUp && (m.conn == nil || one.qos <= m.conn.limits.MaximumQoS) {
			fail("the server would have accepted it")
		}
	case outbox.TimePassed:
		if one.expires.IsZero() || time.Until(one.expires) > time.Millisecond || one.order > 0 || one.qos == 2 && m.maybeEarlier(one) {
			fail("it must not expire")
		}
		if m.conn == nil && one.fails && m.maybeEarlier(one) {
			fail("it fails if the session is lost, which is not known yet")
		}
	case outbox.StoreFull, outbox.Replaced:
		if one.wire || m.maybeEarlier(one) {
			fail("it may have been sent")
		}
		if e.Cause == outbox.Replaced && !slices.ContainsFunc(m.messages[n:], func(o *modelMessage) bool { return o.key == one.key }) {
			fail("there is no newer message with its key")
		}
	case outbox.SessionLost:
		m.lost++
		if !one.fails || !one.wire && !m.maybeEarlier(one) {
			fail("it is published again in the next session")
		}
	default:
		fail("why?")
	}
}

// gone reports whether the store has ended the message.
func (m *model) gone(one *modelMessage) bool {
	ok, err := m.store.Get(one.seq, new(persistence.Entry))
	if err != nil {
		m.t.Fatal(err)
	}
	return !ok
}

// check compares the totals, and checks that expired messages have ended.
func (m *model) check() {
	m.t.Helper()
	synctest.Wait()
	if m.c != nil {
		m.answerPurges(func(uint16) uint64 { return 0 })
	}
	m.look()
	st := m.store.Stats()
	pending := m.pending(func(*modelMessage) bool { return true })
	if st.Accepted != st.Acked+st.Refused+st.Expired+st.Dropped+st.DeadLettered+st.Pending {
		m.t.Errorf("the sum is wrong: %+v", st)
	}
	for state, got := range map[outbox.State]uint64{outbox.Acked: st.Acked, outbox.Refused: st.Refused, outbox.Expired: st.Expired,
		outbox.Dropped: st.Dropped, outbox.DeadLettered: st.DeadLettered, outbox.Pending: st.Pending} {
		want := m.counts[state]
		if state == outbox.Pending {
			want = uint64(len(pending))
		}
		if got != want {
			m.t.Errorf("state %d: the store counts %d messages, want %d", state, got, want)
		}
	}
	for _, one := range pending {
		if m.isGivenUp(one) && m.conn != nil {
			m.t.Errorf("message %d (%+v) is given up, its packet identifier is purged, and it is pending", one.n, *one)
		}
		late := !one.expires.IsZero() && min(time.Since(one.expires), time.Since(m.began)) > second
		if late && one.order == 0 && !m.maybeEarlier(one) {
			m.t.Errorf("message %d (%+v) is pending %v after its time", one.n, *one, time.Since(one.expires))
		}
	}
	if open := m.o.Open(); open > len(pending) {
		m.t.Errorf("%d messages are open, %d are pending", open, len(pending))
	}
}

// finish makes the server acknowledge all messages.
func (m *model) finish() {
	if m.conn != nil {
		m.cut(0)
	}
	m.connectWith(true, session.Limits{ReceiveMaximum: 100, MaximumQoS: 2, RetainAvailable: true})
	m.answerPurges(func(uint16) uint64 { return 0 })
	for range 3 {
		for _, one := range m.pending(func(one *modelMessage) bool { return m.conn.here[one.n] }) {
			m.acknowledgeOne(one, 0)
		}
	}
	m.check()
	if err := m.o.WaitIdle(m.t.Context()); err != nil || m.o.Open() > 0 {
		m.t.Errorf("WaitIdle returned %v; %d messages are open", err, m.o.Open())
	}
	if len(m.failed) > 0 {
		m.t.Errorf("the store failed: %v", m.failed)
	}
}
