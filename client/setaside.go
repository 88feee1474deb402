package client

import (
	"iter"

	"github.com/mooring-mqtt/mooring/internal/safe"
	"github.com/mooring-mqtt/mooring/internal/setaside"
)

// Errors of [SetAsideList].
var (
	// ErrNoSetAside is returned if the client does not keep a list of messages to handle later.
	ErrNoSetAside = safe.New("client: no list of set-aside messages; set Config.Dir and leave SetAside.Disabled unset")
	// ErrNotSetAside is returned for an ID that is not in the list.
	ErrNotSetAside = setaside.ErrUnknown
	// ErrSetAsideBusy is returned by Redeliver if the message is already being redelivered or waits
	// for a handler to be declared.
	ErrSetAsideBusy = setaside.ErrBusy
	// ErrSetAsideFull is reported in StoreFailed if the list has no space for a message whose
	// handler fails. The message then stays unacknowledged.
	ErrSetAsideFull = setaside.ErrFull
)

// SetAsideList is the list of received messages that were acknowledged but not handled. Either the
// handler of such a message failed permanently, or no handler was declared for its topic. The list
// is as durable as the store. The list is in the folder "received" of Config.Dir. All methods are
// safe for concurrent use. If the client has no list, they return ErrNoSetAside.
type SetAsideList struct{ aside *aside }

// SetAside returns the list of messages that were acknowledged but not handled.
func (c *Client) SetAside() SetAsideList {
	if c == nil {
		return SetAsideList{}
	}
	return SetAsideList{c.aside}
}

// All returns an iterator over the messages, in the order in which they were set aside. The loop
// may call Redeliver and Discard. For an unreadable entry it yields the ID and an error.
func (l SetAsideList) All() iter.Seq2[SetAsideMessage, error] {
	return func(yield func(SetAsideMessage, error) bool) {
		if l.aside == nil {
			yield(SetAsideMessage{}, ErrNoSetAside)
			return
		}
		for _, id := range l.aside.list.IDs() {
			m, _, err := l.aside.message(id)
			if err != setaside.ErrUnknown && !yield(m, err) {
				return
			}
		}
	}
}

// Redeliver passes a message to its handler again, at once. If the handler accepts the message, the
// client removes the message from the list. If the handler fails, the client retries and may set
// the message aside again. The message then has another ID in the list, or the same ID if the list
// is full. Redeliver is unnecessary for a message that has no handler. When a handler is declared
// for its topic, that handler receives the message.
//
// Redeliver and All read from the disk. Both methods block without a limit while the disk does not
// answer. Discard does not read from the disk. Errors: ErrNotSetAside, ErrSetAsideBusy, ErrClosed,
// and those of the store.
func (l SetAsideList) Redeliver(id uint64) error {
	if l.aside == nil {
		return ErrNoSetAside
	}
	if l.aside.ending.Err() != nil {
		return ErrClosed
	}
	m, from, err := l.aside.message(id)
	if err == nil {
		err = l.aside.list.Take(id)
	}
	if err == nil {
		l.aside.inbox.Redeliver(id, stored(m, from), l.aside.orderingKey(m.Message))
	}
	return err
}

// Discard removes a message. Discard returns nil if the message is not in the list. If the message
// is being redelivered, the client does not retry its handler.
func (l SetAsideList) Discard(id uint64) error {
	if l.aside == nil {
		return ErrNoSetAside
	}
	return l.aside.list.Remove(id)
}
