package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/slow"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/ordering"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// message is a received message. Number identifies it.
type message struct {
	Number  int
	Topic   string
	ID      string // dedupe key; empty: none
	Stream  string
	Seq     uint64
	QoS     byte
	Bytes   int64
	Targets []*message   // one for each handler; nil: one handler
	None    bool         // it has no handler
	Later   *atomic.Bool // if set to true, a further handler may be declared
	// InHandler is called in place of a handler, if set.
	InHandler func(ctx context.Context, d *inbox.Delivery[*message]) error
}

// rig is an Inbox on a real session, with a scripted server in place of the network.
type rig struct {
	t       testing.TB
	store   *store
	session *session.Session
	box     *inbox.Inbox[*message]
	server  *server
	facts   *facts
	guard   *callback.Guard
	endAcks func()

	declared atomic.Uint64       // number of handlers
	received map[string]*message // by payload
}

// inBubble runs a test with a started rig and fake time.
func inBubble(t *testing.T, edit func(*inbox.Config[*message]), test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.start(edit)
		r.box.Start()
		defer func() { r.stop(0) }()
		test(r)
	})
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, store: &store{seen: map[uint16]uint64{}}, received: map[string]*message{}, facts: &facts{}, guard: &callback.Guard{}}
	r.server = &server{r: r, window: 100}
	return r
}

// start creates the session and the inbox of a process.
func (r *rig) start(edit func(*inbox.Config[*message])) {
	r.session = session.New(session.Config{Store: r.store, ReceiveMaximum: 1000, Settled: func(uint64, byte, string) {}, Room: func() {},
		Deliver: func(in *session.Inbound, topic string, v wire.PublishView) {
			r.server.mu.Lock()
			m := r.received[string(v.Payload)]
			r.server.mu.Unlock()
			r.box.Push(inbox.Item[*message]{In: in, Message: m, OrderKey: topic, Size: m.Bytes})
		}})
	cfg := inbox.Config[*message]{
		Session: r.session, Workers: 4, QoS0Queue: 10, MaxBytes: 1 << 20, StallTimeout: 30 * time.Second, Full: errFull,
		Attempts: 3, Backoff: func(int) time.Duration { return time.Second }, Owner: "me",
		DedupeKey: func(m *message) (string, error) { return m.ID, nil },
		Position: func(m *message) (string, uint64, uint64, ordering.ID) {
			return m.Stream, 1, m.Seq, ordering.HashID(m.ID)
		},
		Observer: r.facts, Guard: r.guard, Verdict: verdict, Route: route,
		Declared: func() uint64 { return r.declared.Load() }, Grace: 30 * time.Second, MaxWaiting: 500,
		Handle: func(ctx context.Context, d *inbox.Delivery[*message]) error {
			if f := d.Message.InHandler; f != nil {
				if err := f(ctx, d); err != nil {
					return err
				}
			}
			r.facts.add("handled %d", d.Message.Number)
			return nil
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	r.box = inbox.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	r.endAcks = cancel
	go r.session.RunAcks(ctx)
}

func route(m *message, final bool, to []*message) ([]*message, bool) {
	switch {
	case m.None:
		return to, false
	case m.Later != nil && !m.Later.Load() && !final:
		return to, true
	case m.Targets != nil:
		return append(to, m.Targets...), false
	}
	return append(to, m), false
}

// stop ends the process: inbox, acknowledgements and connection.
func (r *rig) stop(grace time.Duration) (unhandled int) {
	r.box.StopStalling()
	unhandled = r.box.Stop(grace)
	r.endAcks()
	r.guard.End()
	synctest.Wait()
	r.server.disconnect()
	return unhandled
}

// apart returns n topics whose messages are handled by different workers.
func (r *rig) apart(n int) (topics []string) {
	used := map[int]bool{}
	for i := 0; len(topics) < n; i++ {
		topic := fmt.Sprint("topic", i)
		if w := r.box.WorkerOf(topic); !used[w] {
			used[w] = true
			topics = append(topics, topic)
		}
	}
	return topics
}

// send makes the server send messages, after those that it already has.
func (r *rig) send(messages ...*message) {
	r.server.mu.Lock()
	for _, m := range messages {
		r.received[fmt.Sprint(m.Number)] = m
		r.server.queue = append(r.server.queue, &outbound{m: m})
	}
	r.server.mu.Unlock()
	r.server.wake()
}

// acked returns the acknowledgements since the last call, after all goroutines are idle.
func (r *rig) acked() (list []string) {
	synctest.Wait()
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	list, r.server.acks = r.server.acks, nil
	return list
}

func (r *rig) wantAcks(want ...string) {
	r.t.Helper()
	if got := r.acked(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("acknowledged %v, want %v", got, want)
	}
}

func (r *rig) wantFacts(want ...string) {
	r.t.Helper()
	synctest.Wait()
	if got := r.facts.take(); fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("got  %q\nwant %q", got, want)
	}
}

// refused is an error that refuses a message.
type refused struct {
	code   byte
	reason string
}

func (r *refused) Error() string { return "refused" }

var errPermanent = errors.New("permanent")

func verdict(err error) inbox.Verdict {
	var r *refused
	if errors.As(err, &r) {
		return inbox.Verdict{Refused: true, Code: r.code, Reason: r.reason}
	}
	return inbox.Verdict{Permanent: errors.Is(err, errPermanent), Panic: errors.As(err, new(*callback.Panic))}
}

// facts is an Observer that records events and the messages that handlers accepted.
type facts struct {
	onUnhandled func() // may be nil

	mu   sync.Mutex
	list []string
}

func (f *facts) add(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

func (f *facts) take() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, f.list = f.list, nil
	return list
}

var results = map[inbox.Result]string{inbox.Retried: "retried", inbox.Refused: "refused", inbox.SetAside: "set aside", inbox.Waiting: "waiting", inbox.Dropped: "dropped"}

func (f *facts) HandlerFailed(m *message, x inbox.Failure) {
	f.add("failed %d %v %s", m.Number, x.Err, results[x.Result])
}
func (f *facts) Expired(m *message)    { f.add("expired %d", m.Number) }
func (f *facts) HeldUp(h inbox.HeldUp) { f.add("held up %s %d %d", h.Topic, h.Attempts, h.Behind) }
func (f *facts) Slow(s slow.Call[*message]) {
	f.add("slow %d %v %d", s.Message.Number, s.For, s.Waiting)
}
func (f *facts) Unhandled(m *message, r inbox.Result, err error) {
	f.add("unhandled %d %s", m.Number, results[r])
	if f.onUnhandled != nil {
		f.onUnhandled()
	}
}
func (f *facts) Gap(g ordering.Gap)            { f.add("gap %s %d-%d", g.Key, g.From, g.To) }
func (f *facts) CallbackFailed(err error)      { f.add("callback: %v", err) }
func (f *facts) StoreFailed(err error)         { f.add("store: %v", err) }
func (f *facts) LateDropped(m *message)        { f.add("late dropped %d", m.Number) }
func (f *facts) NumberReused(m *message)       { f.add("number reused %d", m.Number) }
func (f *facts) NumberRepeated(m *message)     { f.add("number repeated %d", m.Number) }
func (f *facts) QoS0Dropped(m *message)        { f.add("QoS 0 dropped %d", m.Number) }
func (f *facts) Duplicate(*message)            {}
func (f *facts) Stalled(_ int64, leaving bool) { f.add("stalled leaving=%v", leaving) }

// store is a session.Store that survives the process.
type store struct{ seen map[uint16]uint64 }

func (s *store) Release(uint64) error                     { return nil }
func (s *store) Seen(id uint16, fingerprint uint64) error { s.seen[id] = fingerprint; return nil }
func (s *store) Cleared(id uint16) error                  { delete(s.seen, id); return nil }
func (s *store) Sync() error                              { return nil }
func (s *store) SeenIDs() map[uint16]uint64               { return maps.Clone(s.seen) }
func (s *store) FingerprintKey() [16]byte                 { return [16]byte{1} }

var errFull = errors.New("full")
