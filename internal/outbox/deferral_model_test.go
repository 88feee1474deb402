package outbox_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
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

func (m *deferModel) pending(match func(*deferMessage) bool) (list []*deferMessage) {
	for _, one := range m.list {
		if one.end == nil && match(one) {
			list = append(list, one)
		}
	}
	return list
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

func (one *deferMessage) queueKey() string { return fmt.Sprint(one.priority, one.topic) }
