package client

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/mooring-mqtt/mooring/internal/inbox"
	"github.com/mooring-mqtt/mooring/internal/setaside"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// SetAsideMessage is a received message that was acknowledged but not handled.
type SetAsideMessage struct {
	ID       uint64 // identifies the entry in the list; differs from the message ID
	Message  *Message
	Filter   string // filter of the handler that did not accept the message; empty if the topic had no handler
	Err      string // first 1,024 bytes of the error of the last attempt
	Attempts int
	At       time.Time // when the message was set aside
}

// maxEntry is the maximum size of an entry in a log, in bytes.
const maxEntry = 268_435_000

// aside implements inbox.Aside with the list of set-aside messages.
type aside struct {
	list        *setaside.List
	inbox       *inbox.Inbox[inbound]
	ending      context.Context // ends with the client
	orderingKey func(*Message) string
	failed      func(error) // reports an error of the list
}

// openAside opens the list of a client. It returns nil if the client has none.
func openAside(c *Config, onCorruption func(persistence.Corruption)) (*aside, error) {
	s := &c.Receiving.SetAside
	if c.Dir == "" || s.Disabled {
		return nil, nil
	}
	o := &c.Store.Options
	// An entry also holds the filter, the error, the identity, and the topic that an alias
	// replaced.
	maxPacket := min(int(c.Connection.MaximumPacketSize)+2*65_535+8192, maxEntry)
	list, err := setaside.New(filepath.Join(c.Dir, "received"), persistence.Options{
		Sync: o.Sync, Interval: o.Interval, FS: o.FS, WriteTimeout: o.WriteTimeout, OnCorruption: onCorruption,
		Limits: persistence.Limits{MaxMessages: s.MaxMessages, MaxBytes: max(s.MaxBytes, int64(maxPacket)), MaxPacketBytes: maxPacket},
		Files:  persistence.Files{SegmentBytes: 4 << 20, BufferBytes: 64 << 10, PreallocateBytes: o.Files.PreallocateBytes},
	})
	return &aside{list: list}, err
}

func (a *aside) close() error {
	if a == nil {
		return nil
	}
	return a.list.Close()
}

func (a *aside) size() (messages int, bytes int64) {
	if a == nil {
		return 0, 0
	}
	return a.list.Size()
}

// empty reports whether restore has nothing to do.
func (a *aside) empty() bool {
	return a == nil || len(a.list.IDs()) == 0
}

// restore passes messages that earlier processes set aside without a handler to the inbox.
func (a *aside) restore() {
	for _, id := range a.list.IDs() {
		m, from, err := a.message(id)
		switch {
		case err != nil:
			a.failed(err)
		case m.Filter == "" && a.list.Take(id) == nil:
			a.inbox.Restore(id, stored(m, from), a.orderingKey(m.Message))
		}
	}
}

// message returns an entry of the list.
func (a *aside) message(id uint64) (s SetAsideMessage, from origin, err error) {
	e, err := a.list.Get(id)
	if err != nil {
		return SetAsideMessage{ID: id}, from, err
	}
	s = SetAsideMessage{ID: id, Filter: e.Filter, Err: e.Err, Attempts: e.Attempts, At: e.At}
	f, err := wire.NewReader(bytes.NewReader(e.Packet), 0).Next()
	if err != nil {
		return s, from, err
	}
	v, err := wire.ParsePublish(f)
	if err != nil {
		return s, from, err
	}
	p := v.Decode(string(v.Topic))
	from = newOrigin(p.SubscriptionIDs, false)
	s.Message = received(&p)
	s.Message.ReceivedAt, s.Message.SubscriptionIDs = e.Received, from.visible()
	return s, from, nil
}

// stored returns the part of an entry that routing needs. The rest remains in the list.
func stored(m SetAsideMessage, from origin) inbound {
	return inbound{Message: &Message{Topic: m.Message.Topic}, from: from, only: m.Filter}
}

// Add implements inbox.Aside: it stores a message.
func (a *aside) Add(m inbound, why inbox.Given) (id uint64, kept inbound, err error) {
	e := setaside.Entry{Received: m.ReceivedAt, At: time.Now(), Attempts: why.Attempts, Packet: encodeReceived(m)}
	if e.Taken = why.Err == nil; !e.Taken { // the message waits for a handler
		e.Err, e.Filter = panicError(why.Err).Error(), m.to.Filter
	}
	if id, err = a.list.Add(&e); errors.Is(err, setaside.ErrFull) {
		err = errors.Join(inbox.ErrAsideFull, err)
	}
	return id, stored(SetAsideMessage{Message: m.Message, Filter: e.Filter}, m.from), err
}

// Load implements inbox.Aside: it reads a message.
func (a *aside) Load(id uint64, _ inbound) (inbound, error) {
	m, from, err := a.message(id)
	return inbound{Message: m.Message, from: from, only: m.Filter}, err
}

// Remove implements inbox.Aside.
func (a *aside) Remove(id uint64) error { return a.list.Remove(id) }

// Has implements inbox.Aside.
func (a *aside) Has(id uint64) bool { return a.list.Has(id) }

// Kept implements inbox.Aside.
func (a *aside) Kept(id uint64) { a.list.Keep(id) }

// encodeReceived returns a received message as a PUBLISH, with the Subscription Identifiers that
// select its handlers.
func encodeReceived(m inbound) []byte {
	p := m.packet()
	if p.Dup = m.Duplicate; m.from.id != 0 && !m.from.anybody {
		p.SubscriptionIDs = []uint32{m.from.id}
		if m.from.others != nil {
			p.SubscriptionIDs = append(p.SubscriptionIDs, *m.from.others...)
		}
	}
	if p.QoS > 0 {
		p.PacketID = 1 // the parser requires one
	}
	p.Extra = identity(nil, m.ID, m.Origin)
	return wire.AppendPublish(nil, &p)
}
