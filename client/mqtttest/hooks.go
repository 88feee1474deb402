package mqtttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Disconnect sends DISCONNECT with a reason code to a client, closes the connection of the client
// and publishes its will. It reports whether the client was connected.
func (b *Broker) Disconnect(clientID string, reason byte) bool {
	return b.part(clientID, func(c *conn) { c.finish(reason, "") })
}

// Cut ends a client's connection without DISCONNECT, like a broken network, and publishes its will.
// It reports whether the client was connected.
func (b *Broker) Cut(clientID string) bool { return b.part(clientID, (*conn).cut) }

func (b *Broker) part(clientID string, how func(*conn)) bool {
	b.lock()
	defer b.wake()
	defer b.unlock()
	s := b.sessions[clientID]
	if s == nil || s.conn == nil || b.closed {
		return false
	}
	c := s.conn
	how(c)
	b.detach(s, true)
	return true
}

// DropSession makes the broker forget the session of a client, with its queue, its subscriptions
// and its will. The broker does not publish the will. DropSession also cuts the client's
// connection. It reports whether the client had a session.
func (b *Broker) DropSession(clientID string) bool {
	b.lock()
	defer b.wake()
	defer b.unlock()
	s := b.sessions[clientID]
	if s == nil || b.closed {
		return false
	}
	b.drop(s)
	return true
}

// DropSessions calls DropSession for all sessions and returns the number of sessions. The broker
// keeps its retained messages.
func (b *Broker) DropSessions() int {
	b.lock()
	defer b.wake()
	defer b.unlock()
	if b.closed {
		return 0
	}
	n := len(b.sessions)
	for _, s := range b.sessions {
		b.drop(s)
	}
	return n
}

func (b *Broker) drop(s *session) {
	if s.conn != nil {
		s.conn.cut()
		s.conn = nil
		b.stats.Connections--
	}
	s.will = nil
	b.forget(s)
	b.log.ended(s)
}

// Connected reports whether a client is connected.
func (b *Broker) Connected(clientID string) bool {
	b.state.Lock()
	defer b.state.Unlock()
	s := b.sessions[clientID]
	return s != nil && s.conn != nil
}

// Session reports whether the broker has a session for a client. The client may be connected or
// not.
func (b *Broker) Session(clientID string) bool {
	b.state.Lock()
	defer b.state.Unlock()
	return b.sessions[clientID] != nil
}

// Retained returns a copy of the payload of a topic's retained message.
func (b *Broker) Retained(topic string) (payload []byte, ok bool) {
	b.state.Lock()
	defer b.state.Unlock()
	m := b.retained.get(topic)
	if m == nil || m.expired() {
		return nil, false
	}
	return slices.Clone(m.payload), true
}

// ErrClosed is returned by methods of a closed broker.
var ErrClosed = errors.New("mqtttest: the broker is closed")

// WaitFor waits until the function done returns true. It calls done at once, and again after each
// event of the broker. It holds no lock during the call, so done may use the broker's methods. If
// ctx ends first, WaitFor returns an error.
func (b *Broker) WaitFor(ctx context.Context, done func() bool) error {
	for {
		b.state.Lock()
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.state.Unlock()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("mqtttest: the condition of WaitFor was not met: %w", context.Cause(ctx))
		case <-b.done:
			return ErrClosed
		}
	}
}
