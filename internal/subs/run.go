package subs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

// maxFilters is the maximum number of filters in one packet.
const maxFilters = 32

// exchange is a packet and its answer.
type exchange struct {
	batch   []*request
	ctx     context.Context // ends the wait for the answer
	cancel  func()
	reasons []byte // reason codes of the answer
	text    string // Reason String of the answer
	err     error
}

// Attach starts a connection. From then on, requests wait for this server's answers. Run must be
// called afterwards.
func (t *Table) Attach(up *link.Up) {
	for _, r := range t.attach(&connection{limits: up.Gen.Limits, present: up.Gen.Present, same: up.Resumed}) {
		t.cfg.Report(r)
	}
}

// Run sends the requests that make the server's subscriptions match the table, until ctx or the
// connection ends. Requests for which no caller waits are sent after up.Ready. Run sets
// up.Subscribed when the server has answered for all subscriptions of the application.
func (t *Table) Run(ctx context.Context, up *link.Up) {
	defer t.detach()
	answered := make(chan *exchange, maxOut)
	out := 0
	take := func(x *exchange) {
		out--
		t.answered(up, x)
	}
	ready := up.Ready.Done() // nil: ready already
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	for ctx.Err() == nil && up.Cause() == nil {
		x, caughtUp := t.next(ready == nil)
		if caughtUp {
			up.Subscribed.Set()
		}
		if x != nil {
			out++
			t.send(ctx, up, x, answered)
			select {
			case x := <-answered:
				take(x)
			default:
			}
			continue
		}
		retry.Reset(t.untilRetry())
		select {
		case x := <-answered:
			take(x)
		case <-retry.C:
			t.retryRefused()
		case <-t.wake:
		case <-ready:
			ready = nil
		case <-ctx.Done():
		case <-up.Failed():
		}
	}
	for out > 0 {
		take(<-answered)
	}
}

// send sends a packet and passes it to answered when the answer has arrived.
func (t *Table) send(ctx context.Context, up *link.Up, x *exchange, answered chan<- *exchange) {
	t.mu.Lock()
	x.ctx, x.cancel = context.WithCancel(ctx)
	t.abandonLocked()
	t.mu.Unlock()
	r, err := ask(up, x.batch)
	if err != nil {
		x.err = err
		answered <- x
		return
	}
	go func() {
		x.reasons, x.text, x.err = r.Wait(x.ctx)
		answered <- x
	}()
}

// answered processes an answer or a missing answer.
func (t *Table) answered(up *link.Up, x *exchange) {
	defer x.cancel()
	t.mu.Lock()
	delete(t.out, x)
	t.mu.Unlock()
	err := x.err
	if x.ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		up.Fail(t.cfg.NoAnswer) // only a new connection shows whether the server has the subscription
	}
	for i, r := range x.batch {
		refused := err
		switch {
		case err == nil && x.reasons[i] >= 0x80:
			refused = &RefusedError{Code: x.reasons[i], Filter: r.e.filter, Reason: x.text}
		case err == nil:
			r.granted = x.reasons[i]
		case up.Cause() != nil || x.ctx.Err() != nil:
			t.unanswered(r, err)
			continue
		}
		for _, result := range t.done(r, refused) {
			t.cfg.Report(result)
		}
		finish(r.waiting, refused)
	}
}

// abandonLocked stops waiting for answers for which no caller waits. The next connection then shows
// whether the server has the subscription.
func (t *Table) abandonLocked() {
	for x := range t.out {
		if x.cancel != nil && !slices.ContainsFunc(x.batch, func(r *request) bool {
			return len(r.waiting) == 0 || slices.ContainsFunc(r.waiting, (*Request).waits)
		}) {
			x.cancel()
		}
	}
}

// unanswered processes a request without an answer. The server's state is then unknown. The callers
// wait for the end of the connection. If the connection ends because the answer was invalid, they
// get that error. In either case, the next connection repeats the request.
func (t *Table) unanswered(r *request, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := r.e
	e.out, e.parked, e.id, e.served, e.made = false, true, 0, [owners]uint64{}, 0
	app := e.want[Application]
	if app != nil {
		app.Made.Set(0, false)
	}
	if bad := (*wire.Error)(nil); errors.As(err, &bad) {
		if app != nil {
			e.err = err
		}
		finish(r.waiting, err)
		return
	}
	e.waiting = append(e.waiting, r.waiting...)
}

// ask sends one packet.
func ask(up *link.Up, batch []*request) (*link.Request, error) {
	if err := check(batch, up.Gen.Limits); err != nil { // in this case it is the only request
		return nil, err
	}
	var user paho.UserProperties
	for _, p := range batch[0].want.User {
		user.Add(p.Key, p.Value)
	}
	if !batch[0].subscribes() {
		p := &paho.Unsubscribe{Properties: &paho.UnsubscribeProperties{User: user}}
		for _, r := range batch {
			p.Topics = append(p.Topics, r.e.filter)
		}
		return up.Unsubscribe(p)
	}
	p := &paho.Subscribe{Properties: &paho.SubscribeProperties{User: user}}
	for _, r := range batch {
		p.Subscriptions = append(p.Subscriptions, paho.SubscribeOptions{
			Topic: r.want.Filter, QoS: r.want.QoS, NoLocal: r.want.NoLocal,
			RetainAsPublished: r.want.RetainAsPublished, RetainHandling: r.want.RetainHandling,
		})
	}
	if id := int(batch[0].want.ID); id > 0 {
		p.Properties.SubscriptionIdentifier = &id
	}
	return up.Subscribe(p)
}

// check returns an error if the server does not accept a packet with these requests.
func check(batch []*request, l session.Limits) error {
	sub := batch[0].subscribes()
	props := userSize(batch[0].want.User)
	if id := batch[0].want.ID; id > 0 && sub {
		props += 1 + wire.VarintLen(id)
	}
	size := 2 + wire.VarintLen(uint32(props)) + props
	for _, r := range batch {
		size += 2 + len(r.e.filter)
		if !sub {
			continue
		}
		size++
		_, rest, shared := wire.SplitShare(r.e.filter)
		switch {
		case r.want.ID > 0 && !l.SubIDAvailable:
			return &RefusedError{wire.ReasonSubIDsNotSupported, r.e.filter, "subscribe without SubscriptionID"}
		case shared && !l.SharedAvailable:
			return &RefusedError{wire.ReasonSharedSubsNotSupported, r.e.filter, "subscribe without $share, with one client"}
		case strings.ContainsAny(rest, "+#") && !l.WildcardAvailable:
			return &RefusedError{wire.ReasonWildcardSubsNotSupported, r.e.filter, "name each topic by itself"}
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
	return &RefusedError{wire.ReasonPacketTooLarge, batch[0].e.filter, reason}
}
