package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/ordering"
)

// history is a random run of one session. It has duplicates, handlers that fail in every way,
// broken connections, and processes that stop and start again. It records what the handlers did.
type history struct {
	*rig
	seed    uint64
	rnd     *rand.Rand // not used by handlers
	edit    func(*config)
	cache   dedupe.Cache // nil: none
	ordered bool         // a resequencer restores the order

	mu       sync.Mutex
	accepted map[string]int // calls of handlers that accepted, by identity
	refused  map[string]bool
	numbers  map[int]bool   // messages that were accepted
	last     map[string]int // the highest of numbers, by topic
	lastSeq  map[string]uint64
}

// identity is the same for copies of a message.
func identity(m *message) string { return fmt.Sprint(m.Topic, " ", m.Seq) }

func TestInbox_RandomHistories(t *testing.T) {
	const seeds = 300
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newHistory(t, seed).run() })
		})
	}
}

func newHistory(t *testing.T, seed uint64) *history {
	rnd := rand.New(rand.NewPCG(seed, 0))
	h := &history{rig: newRig(t), seed: seed, rnd: rnd, accepted: map[string]int{}, refused: map[string]bool{}, numbers: map[int]bool{},
		last: map[string]int{}, lastSeq: map[string]uint64{}}
	if rnd.IntN(2) == 0 {
		cache := &failing{Cache: dedupe.NewMemory(dedupe.Options{Lease: 2 * time.Second}), how: ways["error"]}
		cache.begins.Store(int32(rnd.IntN(3)))
		h.cache = cache
	}
	h.ordered = rnd.IntN(3) == 0
	workers, narrow := 1+rnd.IntN(4), rnd.IntN(2) == 0
	h.edit = func(cfg *config) {
		cfg.Workers, cfg.StallTimeout = workers, 5*time.Second
		if narrow {
			cfg.MaxBytes = 350
		}
		if h.cache != nil {
			cfg.Dedupe = h.cache
		}
		if h.ordered {
			cfg.Ordering = &ordering.Options{GapTimeout: 24 * time.Hour, Start: ordering.FromOne}
		}
		cfg.Handle = func(ctx context.Context, d *delivery) error { return h.handle(ctx, d, cfg.MaxBytes) }
	}
	h.server.mayAck, h.server.window = h.mayAck, 10
	h.start(h.edit)
	return h
}

// messages returns the whole history: numbered per topic, with copies. If a resequencer restores
// the order, neighbors are swapped.
func (h *history) messages() (list []*message) {
	seq := map[string]uint64{}
	for n := range 60 {
		topic := fmt.Sprint("t", h.rnd.IntN(3))
		seq[topic]++
		m := &message{Number: n, Topic: topic, Stream: topic, Seq: seq[topic], QoS: byte(h.rnd.IntN(3)), Bytes: 100}
		if m.ID = identity(m); h.ordered {
			m.QoS = byte(1 + h.rnd.IntN(2)) // a lost number would block the others
		}
		list = append(list, m)
	}
	if h.ordered {
		for i := 1; i < len(list); i += 2 {
			if h.rnd.IntN(2) == 0 {
				list[i-1], list[i] = list[i], list[i-1]
			}
		}
	}
	for range 15 { // copies, anywhere after the original
		i := h.rnd.IntN(len(list))
		twin := *list[i]
		at := i + 1 + h.rnd.IntN(len(list)-i)
		list = append(list[:at:at], append([]*message{&twin}, list[at:]...)...)
	}
	for n, m := range list {
		m.Number = n
	}
	return list
}

// handle is the handler. It fails in every way.
func (h *history) handle(ctx context.Context, d *delivery, limit int64) error {
	m := d.Message
	rnd := rand.New(rand.NewPCG(h.seed, uint64(10*m.Number+d.Attempt)))
	way, pause := rnd.IntN(20), time.Duration(rnd.IntN(4))*time.Duration(rnd.Int64N(int64(3*time.Second)))
	if n := h.box.Stats().Bytes; n > limit {
		h.t.Errorf("%d bytes are taken", n)
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
		return ctx.Err()
	}
	last := d.Attempt == 3
	switch way {
	case 0:
		h.refuse(m, last)
		return errors.New("no")
	case 1:
		h.refuse(m, last)
		panic("no")
	case 2:
		h.refuse(m, last)
		runtime.Goexit()
	case 3:
		h.refuse(m, true)
		return &refused{code: 0x97}
	}
	h.accept(m)
	return nil
}

func (h *history) refuse(m *message, final bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if final {
		h.refused[identity(m)] = true
	}
}

func (h *history) accept(m *message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	again := h.numbers[m.Number]
	h.accepted[identity(m)]++
	h.numbers[m.Number] = true
	switch {
	case again && m.QoS == 2:
		h.t.Errorf("message %d of QoS 2 was handled again", m.Number)
	case h.cache != nil && h.accepted[identity(m)] > 1:
		h.t.Errorf("%s was handled again, as message %d", identity(m), m.Number)
	case again || m.QoS == 0 || h.refused[identity(m)]: // the refusal may not have arrived
	case h.ordered:
		if m.Seq < h.lastSeq[m.Topic] {
			h.t.Errorf("%s was handled after %d", identity(m), h.lastSeq[m.Topic])
		}
		h.lastSeq[m.Topic] = m.Seq
	default:
		if m.Number < h.last[m.Topic] {
			h.t.Errorf("message %d was handled after %d", m.Number, h.last[m.Topic])
		}
		h.last[m.Topic] = m.Number
	}
}

// mayAck checks that a message was handled or refused before it is acknowledged. It is called with
// the server's lock held.
func (h *history) mayAck(m *message, reason byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := identity(m)
	switch {
	case reason >= 0x80 && !h.refused[id]:
		return fmt.Errorf("0x%02X, and no handler refused it", reason)
	case reason >= 0x80 || h.accepted[id] > 0:
		return nil
	case h.ordered && h.refused[id]: // the number is used up
		return nil
	case h.ordered: // a copy of a message that is held for order
		for _, o := range h.server.queue {
			if o.m != m && identity(o.m) == id && !o.acked {
				return nil
			}
		}
	}
	return errors.New("it was not handled")
}

func (h *history) run() {
	h.box.Start()
	h.server.connect()
	list := h.messages()
	for len(list) > 0 {
		n := min(len(list), 1+h.rnd.IntN(10))
		h.send(list[:n]...)
		list = list[n:]
		time.Sleep(time.Duration(h.rnd.Int64N(int64(5 * time.Second))))
		switch h.rnd.IntN(6) {
		case 0:
			h.server.connect()
		case 1:
			h.server.disconnect()
		case 2:
			if !h.ordered { // a new resequencer does not know which messages the previous one has handled
				h.restart()
			}
		}
		h.reconnect()
	}
	for tries := 0; h.server.unacked() > 0; tries++ {
		if tries > 5000 {
			h.t.Errorf("%d messages are never acknowledged; %+v", h.server.unacked(), h.box.Stats())
			h.stop(0)
			return
		}
		time.Sleep(time.Second)
		h.reconnect()
	}
	synctest.Wait()
	if n := h.server.unacked(); n == 0 && h.box.Stats().Bytes != 0 {
		time.Sleep(time.Minute) // messages of QoS 0
		if n := h.box.Stats().Bytes; n != 0 {
			h.t.Errorf("%d bytes are taken", n)
		}
	}
	if h.cache != nil && h.cache.Stats().Claims != 0 {
		h.t.Errorf("%d claims are held", h.cache.Stats().Claims)
	}
	h.stop(time.Hour)
}

// reconnect starts a connection if there is none.
func (h *history) reconnect() {
	h.server.mu.Lock()
	c := h.server.conn
	h.server.mu.Unlock()
	if c == nil || c.isClosed() {
		h.server.connect()
	}
}

// restart ends the process and starts another one.
func (h *history) restart() {
	h.stop(time.Duration(h.rnd.IntN(3)) * time.Second)
	if n := h.box.Stats(); h.cache != nil && h.cache.Stats().Claims != 0 {
		h.t.Errorf("%d claims are left, %+v", h.cache.Stats().Claims, n)
	}
	h.start(h.edit)
	h.box.Start()
}
