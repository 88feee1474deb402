package main

import (
	"errors"
	"fmt"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

// message is a stored message with its packet decoded.
type message struct {
	*inspect.Message
	publish wire.Publish
	decoded bool // publish is valid: the packet is a PUBLISH
}

// known reports whether the record is readable. Otherwise only the sequence number and the outcome
// are known.
func (m *message) known() bool { return m.Offset > 0 }

// deferred reports whether the server refused the message, or it waits for other messages of its topic.
func (m *message) deferred() bool { return !m.Deferral.Since.IsZero() }

// state returns the name of the state of a message.
func (m *message) state() string {
	switch {
	case m.DeadLetter:
		return "dead"
	case m.Result.Kind == persistence.DeadLettered:
		return "discarded"
	case m.Result.Kind != 0:
		return m.Result.Kind.String()
	case m.Released:
		return "released"
	case m.deferred():
		return "deferred"
	}
	return "pending"
}

// topic returns the topic to print, or the reason why the topic is unknown.
func (m *message) topic() string {
	switch {
	case !m.known():
		return "(its record is damaged)"
	case !m.decoded:
		return "(not a PUBLISH)"
	}
	return safe(m.publish.Topic)
}

var errLimit = errors.New("limit reached")

// each calls do for the messages that the flags select, in order. byDefault replaces a missing
// -state.
func (t *tool) each(byDefault string, do func(*message) error) error {
	state := t.state
	if state == "" {
		state = byDefault
	}
	which, known := map[string]inspect.Filter{
		"pending":  inspect.Pending | inspect.Released,
		"released": inspect.Released,
		"deferred": inspect.Pending | inspect.Released,
		"dead":     inspect.DeadLetters,
		"done":     inspect.Done,
		"all":      inspect.All,
	}[state]
	if !known {
		return fmt.Errorf("unknown -state %s: use pending, deferred, released, dead, done or all", state)
	}
	if t.topic != "" {
		if err := wire.CheckTopicFilter(t.topic); err != nil {
			return fmt.Errorf("-topic %q: %w", t.topic, err)
		}
	}
	if t.limit < 0 {
		return fmt.Errorf("-limit %d is negative: use 0 for all", t.limit)
	}
	var failed error
	found := 0
	err := t.in.Messages(which, func(stored *inspect.Message) bool {
		m := message{Message: stored}
		if m.known() {
			m.publish, m.decoded = decode(m.Packet)
		}
		if t.topic != "" && !(m.decoded && wire.Match(t.topic, m.publish.Topic)) {
			return true
		}
		if state == "deferred" && !m.deferred() {
			return true
		}
		if t.limit > 0 && found == t.limit {
			failed = errLimit
			return false
		}
		found++
		failed = do(&m)
		return failed == nil
	})
	return errors.Join(err, failed)
}
