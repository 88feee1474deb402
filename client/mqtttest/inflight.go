package mqtttest

import "math"

// flight is a QoS 1 or 2 message between its first PUBLISH and its last acknowledgement.
type flight struct {
	entry
	id         uint16
	released   bool  // PUBREC was received, so the broker sends PUBREL and not PUBLISH
	sentOn     *conn // the connection on which the message was last sent
	prev, next *flight
}

// inflight contains the messages that the broker has sent to the client of a session and that are
// not completely acknowledged. It keeps the order of sending, because resends must be in this order
// [MQTT-4.6.0-1]. The packet identifiers are independent of those of messages from the client.
type inflight struct {
	byID        map[uint16]*flight
	first, last *flight
	resend      *flight // next message to resend on this connection
	open        int     // sent on this connection and incomplete; counts against the Receive Maximum
	lastID      uint16
}

// nextID returns an unused packet identifier. The caller must call add next. There must be fewer
// than 65,535 flights.
func (w *inflight) nextID() uint16 {
	for {
		if w.lastID++; w.lastID == 0 {
			w.lastID = 1
		}
		if w.byID[w.lastID] == nil {
			return w.lastID
		}
	}
}

func (w *inflight) full() bool { return len(w.byID) == math.MaxUint16 }

func (w *inflight) add(f *flight) {
	if w.byID == nil {
		w.byID = make(map[uint16]*flight)
	}
	w.byID[f.id] = f
	if f.prev = w.last; f.prev == nil {
		w.first = f
	} else {
		f.prev.next = f
	}
	w.last = f
}

func (w *inflight) remove(f *flight, on *conn) {
	delete(w.byID, f.id)
	if w.resend == f {
		w.resend = f.next
	}
	if f.prev == nil {
		w.first = f.next
	} else {
		f.prev.next = f.next
	}
	if f.next == nil {
		w.last = f.prev
	} else {
		f.next.prev = f.prev
	}
	if on != nil && f.sentOn == on {
		w.open--
	}
}

// rewind marks all messages for resending on a new connection.
func (w *inflight) rewind() { w.resend, w.open = w.first, 0 }
