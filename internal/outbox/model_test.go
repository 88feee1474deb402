package outbox_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
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

// maybeEarlier reports whether this process must assume that an earlier process has sent the
// message.
func (m *model) maybeEarlier(one *modelMessage) bool {
	return one.process < m.process && one.number <= m.earlier[one.priority]
}

// accepted reports whether the store has the message. The newest message may still be on its way.
func (m *model) accepted(one *modelMessage) bool {
	return one.number <= m.numbers[one.priority] || one.priority == persistence.Normal && one.number <= m.store.LastSeq()
}

// gone reports whether the store has ended the message.
func (m *model) gone(one *modelMessage) bool {
	ok, err := m.store.Get(one.seq, new(persistence.Entry))
	if err != nil {
		m.t.Fatal(err)
	}
	return !ok
}
