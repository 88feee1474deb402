package subs

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// maxFilters is how many filters one packet carries.
const maxFilters = 32

// Attach begins a connection: from here on requests wait for its server's answers. Run must follow.
func (t *Table) Attach(up *link.Up) {
	for _, r := range t.attach(&connection{limits: up.Gen.Limits, present: up.Gen.Present, same: up.Resumed}) {
		t.cfg.Report(r)
	}
}

// Run brings the server in line until ctx ends or the connection does. It sends one
// packet at a time, and waits for up.Ready before those that no caller waits for. It
// sets up.Subscribed once the server has answered for all that the application wants.
func (t *Table) Run(ctx context.Context, up *link.Up) {
	defer t.detach()
	ready := up.Ready.Done() // nil: it is
	for ctx.Err() == nil && up.Cause() == nil {
		batch, caughtUp := t.next(ready == nil)
		if caughtUp {
			up.Subscribed.Set()
		}
		if len(batch) > 0 {
			t.exchange(ctx, up, batch)
			continue
		}
		select {
		case <-t.wake:
		case <-ready:
			ready = nil
		case <-ctx.Done():
		case <-up.Failed():
		}
	}
}

// exchange sends one packet and takes the answer.
func (t *Table) exchange(ctx context.Context, up *link.Up, batch []*request) {
	sent, cancel := context.WithCancel(ctx)
	defer cancel()
	t.mu.Lock()
	t.out, t.cancel = batch, cancel // until the next exchange
	t.abandonLocked()
	t.mu.Unlock()
	reasons, err := ask(sent, up, batch)
	if sent.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		up.Fail(t.cfg.NoAnswer) // only a new connection tells whether the server has the subscription
	}
	for i, r := range batch {
		refused := err
		switch {
		case err == nil && reasons[i] >= 0x80:
			refused = &RefusedError{Code: reasons[i], Reason: r.e.filter}
		case err != nil && (up.Cause() != nil || sent.Err() != nil):
			t.unanswered(r)
			continue
		}
		if refused == nil && r.subscribes() && reasons[i] < r.want.QoS {
			r.lowered, r.granted = true, reasons[i]
		}
		for _, result := range t.done(r, refused) {
			t.cfg.Report(result)
		}
		finish(r.waiting, refused)
	}
}

// abandonLocked goes on without an answer that no caller waits for any more. Whether
// the server has the subscription is then found on the next connection.
func (t *Table) abandonLocked() {
	for _, r := range t.out {
		if len(r.waiting) == 0 || slices.ContainsFunc(r.waiting, (*Request).waits) {
			return
		}
	}
	if t.cancel != nil {
		t.cancel()
	}
}

// unanswered takes that a request got no answer, so that nothing is known of what the
// server has. Its callers wait for the end of the connection.
func (t *Table) unanswered(r *request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.e.waiting = append(r.e.waiting, r.waiting...)
	r.e.out, r.e.parked, r.e.identified, r.e.served = false, true, false, [owners]uint64{}
}

// ask sends one packet and returns the reason codes of the answer.
func ask(ctx context.Context, up *link.Up, batch []*request) ([]byte, error) {
	if err := check(batch, up.Gen.Limits); err != nil { // then it is the only request
		return nil, err
	}
	if !batch[0].subscribes() {
		p := &paho.Unsubscribe{}
		for _, r := range batch {
			p.Topics = append(p.Topics, r.e.filter)
		}
		return up.Unsubscribe(ctx, p)
	}
	p := &paho.Subscribe{}
	for _, r := range batch {
		p.Subscriptions = append(p.Subscriptions, paho.SubscribeOptions{
			Topic: r.want.Filter, QoS: r.want.QoS, NoLocal: r.want.NoLocal,
			RetainAsPublished: r.want.RetainAsPublished, RetainHandling: r.want.RetainHandling,
		})
	}
	if id := int(batch[0].want.ID); id > 0 {
		p.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
	}
	return up.Subscribe(ctx, p)
}

// joins reports whether a request fits into the packet of others. All filters of one
// SUBSCRIBE share one Subscription Identifier.
func (c *connection) joins(batch []*request, r *request) bool {
	first := batch[0]
	return len(batch) < maxFilters && first.subscribes() == r.subscribes() && first.want.ID == r.want.ID &&
		check(append(batch[:len(batch):len(batch)], r), c.limits) == nil
}

// check returns why the server cannot take a packet with these requests, or nil.
func check(batch []*request, l session.Limits) error {
	sub := batch[0].subscribes()
	size := 3
	if id := batch[0].want.ID; id > 0 {
		size += 1 + wire.VarintLen(id)
	}
	for _, r := range batch {
		size += 2 + len(r.e.filter)
		if !sub {
			continue
		}
		size++
		_, rest, shared := wire.SplitShare(r.e.filter)
		switch {
		case r.want.ID > 0 && !l.SubIDAvailable:
			return &RefusedError{wire.ReasonSubIDsNotSupported, r.e.filter + "; subscribe without SubscriptionID"}
		case shared && !l.SharedAvailable:
			return &RefusedError{wire.ReasonSharedSubsNotSupported, r.e.filter + "; subscribe without $share, with one client"}
		case strings.ContainsAny(rest, "+#") && !l.WildcardAvailable:
			return &RefusedError{wire.ReasonWildcardSubsNotSupported, r.e.filter + "; name each topic by itself"}
		}
	}
	size += 1 + wire.VarintLen(uint32(size))
	if limit := l.MaximumPacketSize; limit == 0 || size <= int(limit) {
		return nil
	}
	reason := "UNSUBSCRIBE would be larger than the server's Maximum Packet Size"
	if sub {
		reason = "SUBSCRIBE would be larger than the server's Maximum Packet Size; use shorter filters"
	}
	return &RefusedError{wire.ReasonPacketTooLarge, reason}
}
