package inbox_test

import (
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/inbox"
)

// asideList is an in-memory list of set-aside messages.
type asideList struct {
	mu   sync.Mutex
	last uint64
	list map[uint64]*message
}

func (l *asideList) Add(m *message, _ inbox.Given) (uint64, *message, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	l.list[l.last] = m
	return l.last, m, nil
}

func (l *asideList) Load(_ uint64, stored *message) (*message, error) { return stored, nil }

func (l *asideList) Remove(id uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.list, id)
	return nil
}

func (l *asideList) Has(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[id] != nil
}

func (l *asideList) Kept(uint64) {}

// Messages that the application discards do not stay in memory.
func TestInbox_ForgetsDiscardedMessages(t *testing.T) {
	list := &asideList{list: map[uint64]*message{}}
	inBubble(t, func(c *inbox.Config[*message]) { c.Aside, c.Grace = list, 0 }, func(r *rig) {
		r.server.connect()
		r.box.Connected()
		for n := 1; n <= 1000; n++ {
			r.send(&message{Number: n, Topic: "t", QoS: 1, None: true})
			r.acked()
			if n > 10 { // ten messages stay
				_ = list.Remove(uint64(n))
			}
		}
		if n := r.box.Kept(); n < 10 || n > 64 {
			t.Errorf("%d messages are kept, want 10 and few others", n)
		}
	})
}
