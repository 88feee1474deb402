package client

import (
	"context"
	"slices"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// keepTaps makes the taps' subscriptions on one connection, and lives as long as
// that.
func (c *Client) keepTaps(ctx context.Context, up *link.Up) {
	ts := &c.taps
	ts.mu.Lock()
	ts.gen, ts.subIDs, ts.resumed = up.Gen.Number, up.Gen.Limits.SubIDAvailable, up.Gen.Present
	ts.marker.connected(up.Server.String())
	if ts.marker.server != ts.marker.probed {
		ts.copies = copiesUnknown
	}
	for _, s := range slices.Clone(ts.sources) {
		if s.kept = ts.resumed; s.phase != ending {
			s.phase = due
		} else if !up.Gen.Present {
			ts.drop(s) // it went with the session
		}
	}
	ts.mu.Unlock()
	for ctx.Err() == nil {
		switch s, what := ts.next(); {
		case s == nil:
			select {
			case <-ts.wake:
			case <-ctx.Done():
			}
		case what == ending:
			c.endTap(ctx, up, s)
		default:
			c.fillTap(ctx, up, s)
		}
	}
	ts.turn.Lock()
	defer ts.turn.Unlock()
	ts.mu.Lock()
	ts.gen = 0
	var told []*tap
	for _, s := range ts.sources {
		if s.phase != ending {
			s.phase = due
		}
		told = append(told, ts.unfill(s)...)
	}
	ts.mu.Unlock()
	for _, t := range told {
		t.user.lost(up.LastReceived())
	}
}

// next is a source that has something to be done, and the phase that says what.
func (ts *taps) next() (*source, phase) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, s := range ts.sources {
		if s.phase == due || s.phase == ending {
			return s, s.phase
		}
	}
	return nil, 0
}

// fillTap subscribes so that the retained messages come, subscribes again as it is
// to stay, and sends the marker behind.
//
// Retained messages are asked for at QoS 0. At a higher one mosquitto 2.0 drops all
// beyond its max_queued_messages, 1,000 by default, without a word; and what QoS 0
// loses with a connection, the next one fetches again. The marker comes at QoS 0
// as well, so that it stands in the same queue. The second SUBSCRIBE takes the
// place of the first, and the server loses nothing in between [MQTT-3.8.4-4].
//
// Retain As Published is asked for by the second only where handlers may want what is
// published meanwhile: with it the flag would not tell that from an answer to us.
func (c *Client) fillTap(ctx context.Context, up *link.Up, s *source) {
	release, err := c.exchanging(ctx, up)
	if err != nil {
		return
	}
	defer release()
	if !up.Gen.Limits.RetainAvailable {
		c.tapRefused(up, s, &RefusedError{Code: wire.ReasonRetainNotSupported, Reason: "the server has no retained messages"})
		return
	}
	c.prepareMarker(ctx, up)
	theirs, theirID, shared := c.theirs(s.filter)
	overlapped := c.router.overlaps(s.filter)
	ts := &c.taps
	ts.turn.Lock()
	ts.mu.Lock()
	if s.phase != due {
		ts.mu.Unlock()
		ts.turn.Unlock()
		return
	}
	asked := s.again
	s.again = false
	s.phase, s.asked, s.shared, s.theirs = filling, true, shared, theirID
	s.id, s.live = ts.newID(), 0
	s.fill++
	s.doubt = false
	s.nonce, s.owed, s.moved = NewMessageID().String(), ts.marker.err == nil, time.Now()
	first := paho.SubscribeOptions{Topic: s.filter}
	if shared {
		first.QoS, first.NoLocal, first.RetainAsPublished = theirs.QoS, theirs.NoLocal, theirs.RetainAsPublished
	}
	first.RetainAsPublished = first.RetainAsPublished || s.rap() && !overlapped
	s.flagged = first.RetainAsPublished
	stays := first
	stays.RetainHandling, stays.RetainAsPublished = 2, first.RetainAsPublished || s.rap()
	if !shared {
		stays.QoS = byte(s.qos())
	}
	again := stays.QoS != first.QoS || stays.RetainAsPublished != first.RetainAsPublished
	if again {
		s.live = s.id + 1
	}
	fill, id, live, marker := s.fill, s.id, s.live, ts.marker
	var told []*tap // what they have may go while nothing tells which messages are new
	for _, t := range s.taps {
		if t.filled {
			told = append(told, t)
		}
		t.filled, t.fill = false, fill
	}
	ts.mu.Unlock()
	for _, t := range told {
		t.user.refill(asked)
	}
	ts.turn.Unlock()
	err = c.subscribeTap(ctx, up, first, id)
	if err == nil && again {
		err = c.subscribeTap(ctx, up, stays, live)
	}
	if err != nil {
		c.tapRefused(up, s, err)
		return
	}
	if marker.err == nil {
		p := wire.Publish{Topic: marker.topic, Payload: []byte(s.nonce), QoS: 1}
		err := up.Gen.PublishUnstored(wire.AppendPublish(nil, &p), func(reason byte, err error) {
			// 0x10: nobody has subscribed to it, so it will not come.
			if err != nil || reason != wire.ReasonSuccess {
				ts.noMarker(s, fill)
			}
		})
		if err != nil {
			ts.noMarker(s, fill)
		}
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if s.phase == filling && s.fill == fill {
		s.moved = time.Now()
		s.timer = time.AfterFunc(s.silence(), func() { ts.silent(s, fill) })
	}
}

// endTap ends a source that nobody uses any more, or gives the program its
// subscription back.
func (c *Client) endTap(ctx context.Context, up *link.Up, s *source) {
	release, err := c.exchanging(ctx, up)
	if err != nil {
		return
	}
	defer release()
	if theirs, id, ok := c.theirs(s.filter); ok {
		theirs.RetainHandling = 2
		err = c.subscribeTap(ctx, up, theirs, id)
	} else {
		err = c.unsubscribe(ctx, up, s.filter)
	}
	if up.Cause() != nil || ctx.Err() != nil {
		return // the next connection does it
	}
	if err != nil {
		c.event(SubscriptionFailed{Filter: s.filter, Err: err})
	}
	c.taps.mu.Lock()
	if s.phase == ending { // else it is used again
		c.taps.drop(s)
	}
	c.taps.mu.Unlock()
	c.resubscribed(s.filter)
}

// subscribeTap sends one SUBSCRIBE with one filter. id 0: without identifier.
func (c *Client) subscribeTap(ctx context.Context, up *link.Up, o paho.SubscribeOptions, id uint32) error {
	if err := available([]*subscription{{options: o}}, up.Gen.Limits); err != nil {
		return err
	}
	packet := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{o}}
	if id != 0 && up.Gen.Limits.SubIDAvailable {
		n := int(id)
		packet.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &n}
	}
	ack, err := up.Subscribe(ctx, packet)
	if ack == nil {
		return unanswered(ctx, up, err)
	}
	if len(ack.Reasons) != 1 || ack.Reasons[0] >= 0x80 {
		return &RefusedError{Code: ack.Reasons[0], Reason: o.Topic}
	}
	return nil
}

// theirs are the options and the identifier of the program's own subscription to a
// filter.
func (c *Client) theirs(filter string) (o paho.SubscribeOptions, id uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.subs.list {
		if s.options.Topic == filter {
			return s.options, s.id, true
		}
	}
	return o, 0, false
}

// tapRefused says that the server refuses a source, unless it is the connection
// that failed.
func (c *Client) tapRefused(up *link.Up, s *source, err error) {
	if up.Cause() != nil {
		return
	}
	defer c.event(SubscriptionFailed{Filter: s.filter, Err: err})
	ts := &c.taps
	ts.turn.Lock()
	defer ts.turn.Unlock()
	ts.mu.Lock()
	if s.phase == ending {
		ts.drop(s)
	} else {
		s.phase = denied
	}
	told := slices.Clone(s.taps)
	ts.mu.Unlock()
	for _, t := range told {
		t.user.refused(err)
	}
}
