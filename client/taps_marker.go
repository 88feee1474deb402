package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// SyncEnd says how the end of the retained messages was known.
type SyncEnd uint8

const (
	// NotSynced: it is not known yet.
	NotSynced SyncEnd = iota
	// ByMarker: a message to ourselves, published behind our SUBSCRIBE, came back
	// behind them. MQTT does not promise that order from one topic to another;
	// mosquitto keeps it, and so does every server with one queue for a client.
	ByMarker
	// BySilence: nothing came for a while. The server lets us not publish or
	// subscribe to the marker's topic, or the marker did not come.
	BySilence
)

// String names it in lower case.
func (e SyncEnd) String() string {
	switch e {
	case ByMarker:
		return "by marker"
	case BySilence:
		return "by silence"
	}
	return "not synced"
}

// NoMarker as Config.Presence.MarkerTopic: none is published.
const NoMarker = "-"

var errNoMarker = errors.New("client: no marker is published")

// marker is the topic of our own. Under taps.mu.
type marker struct {
	topic   string
	err     error // why there is none on this connection
	ready   bool  // we have subscribed to it on this connection
	probing bool  // by two subscriptions
	server  string
	probed  string // the server whose copies are known
}

// connected begins a connection.
func (m *marker) connected(server string) {
	m.ready, m.probing, m.err, m.server = false, false, nil, server
}

// patience is how many times longer the silence must be while the marker is under
// way: it may stand behind much.
const patience = 10

// prepareMarker subscribes to the topic of our own, once on each connection. The
// first time at a server it does so twice, with filters that both match, to see
// whether messages that several subscriptions match come once or several times.
func (c *Client) prepareMarker(ctx context.Context, up *link.Up) {
	ts := &c.taps
	ts.mu.Lock()
	m := &ts.marker
	if m.ready || m.err != nil {
		ts.mu.Unlock()
		return
	}
	m.topic = c.markerTopic()
	l := up.Gen.Limits
	probing := l.SubIDAvailable && l.WildcardAvailable && m.probed != m.server
	topic, qos := m.topic, byte(0)
	if !l.SubIDAvailable {
		qos = 1 // behind what the session has kept, which no identifier tells from what is new
	}
	ts.mu.Unlock()
	var err error
	switch {
	case topic == NoMarker, len(topic)+len("/#") > wire.MaxString:
		err = errNoMarker
	case l.MaximumQoS < 1:
		err = errNoMarker // whether it is refused would not be told
	default:
		err = c.subscribeTap(ctx, up, paho.SubscribeOptions{Topic: topic, QoS: qos, RetainHandling: 2}, markerID)
	}
	if err == nil && probing {
		probing = c.subscribeTap(ctx, up, paho.SubscribeOptions{Topic: topic + "/#", QoS: qos, RetainHandling: 2}, probeID) == nil
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	m.ready, m.err, m.probing = err == nil, err, probing && err == nil
}

// markerTopic is Config.Presence.MarkerTopic, or one with our ClientID.
func (c *Client) markerTopic() string {
	if c.cfg.Presence.MarkerTopic != "" {
		return c.cfg.Presence.MarkerTopic
	}
	return "mooring/marker/" + strings.NewReplacer("+", "_", "#", "_", "/", "_").Replace(c.ClientID())
}

// marked takes a message on the marker's topic, with ts.mu held, and returns whom
// to tell that all came.
func (ts *taps) marked(m *Message, ours []uint32) (done []*tap) {
	for _, s := range ts.sources {
		if s.phase != filling || s.nonce != string(m.Payload) {
			continue
		}
		if ts.marker.probing && len(ours) > 0 {
			ts.copies = manyCopies
			if len(ours) > 1 {
				ts.copies = oneCopy
			}
			ts.marker.probing, ts.marker.probed = false, ts.marker.server
		}
		return ts.complete(s)
	}
	return nil
}

// complete says that all has come, with ts.mu held, and returns whom to tell. What
// was kept from before has come too by then, so where something could have been either
// that or new, the next fetch knows.
func (ts *taps) complete(s *source) (done []*tap) {
	again := s.doubt && s.kept
	s.phase, s.owed, s.kept = standing, false, false
	if s.timer != nil {
		s.timer.Stop()
	}
	if again {
		s.phase, s.again = due, true
		for _, t := range s.taps {
			t.filled = t.fill == s.fill
		}
		ts.kick()
		return nil
	}
	for _, t := range s.taps {
		switch {
		case t.filled:
		case t.fill == s.fill:
			t.filled = true
			done = append(done, t)
		default: // it came behind the SUBSCRIBE
			s.phase = due
			ts.kick()
		}
	}
	return done
}

// noMarker says that the marker behind a SUBSCRIBE will not come.
func (ts *taps) noMarker(s *source, fill uint64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if s.phase == filling && s.fill == fill {
		s.owed = false
		if s.timer != nil {
			s.timer.Reset(s.silence())
		}
	}
}

// silent ends a fetch when nothing came for long enough.
func (ts *taps) silent(s *source, fill uint64) {
	ts.turn.Lock()
	defer ts.turn.Unlock()
	ts.mu.Lock()
	if s.phase != filling || s.fill != fill {
		ts.mu.Unlock()
		return
	}
	if left := s.silence() - time.Since(s.moved); left > 0 {
		s.timer.Reset(left)
		ts.mu.Unlock()
		return
	}
	done := ts.complete(s)
	ts.mu.Unlock()
	ts.tellFilled(done, BySilence)
}

// tellFilled tells taps that all came, and fills those again that ask for it.
func (ts *taps) tellFilled(done []*tap, end SyncEnd) {
	for _, t := range done {
		if !t.user.filled(end) {
			continue
		}
		ts.mu.Lock()
		switch s := ts.find(t.filter); {
		case s == nil:
		case s.phase == standing:
			s.phase, s.again, t.filled = due, true, false
		case s.phase == due:
			t.filled = false
		}
		ts.mu.Unlock()
		ts.kick()
	}
}

// silence is how long nothing must come until that counts as the end.
func (s *source) silence() time.Duration {
	longest := time.Duration(0)
	for _, t := range s.taps {
		longest = max(longest, t.silence)
	}
	if s.owed {
		longest *= patience
	}
	return longest
}

// qos is what the taps of a source want at least.
func (s *source) qos() QoS {
	q := AtMostOnce
	for _, t := range s.taps {
		q = max(q, t.qos)
	}
	return q
}

// rap is whether one of them wants to know which publications are retained.
func (s *source) rap() bool {
	return slices.ContainsFunc(s.taps, func(t *tap) bool { return t.rap })
}
