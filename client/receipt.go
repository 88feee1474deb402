package client

import (
	"bytes"
	"context"
	"iter"
	"time"

	"github.com/mooring-mqtt/mooring/internal/callback"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Receipt is the outcome of a message, and when it ended, by the store's clock. At is
// zero while the message is pending.
type Receipt struct {
	Outcome  Outcome
	At       time.Time
	Deferral Deferral // of a pending message that the server refuses for now, or that waits behind one
}

// Deferral is why and until when a pending message is not sent. The zero value is none.
type Deferral struct {
	Since    time.Time // when it was first deferred
	Until    time.Time // when it is sent again, at the earliest
	Attempts int       // how often the server refused it; 0: it waits for a message of its topic
	Code     byte      // the last reason code
	Alone    bool      // connections ended over it, so it is sent alone
	// GivenUp: it is not sent again, and ends when the server has answered PUBREL for its packet
	// identifier, which it may hold.
	GivenUp bool
}

// Receipt returns the outcome of the newest message with this ID, accepted by this process or an
// earlier one. That a message is pending or deferred is always known. The store keeps the outcomes of
// ended messages within the limits of Store.Options.Retention (MaxReceipts, ReceiptAge); Receipt returns
// false if it has none, and ErrNoReceipts if it keeps none. Outcome.Err is as in the Delivery, but without
// the server's reason string and the cause of a drop, which are not kept. Receipt may read from the disk, and
// waits for it without a limit if it does not answer.
// If a custom store does not implement persistence.Receipts, it reads all pending messages. Errors:
// ErrNoReceipts, and those of the store.
func (c *Client) Receipt(id MessageID) (Receipt, bool, error) {
	if c == nil {
		return Receipt{}, false, ErrNilClient
	}
	r, ok, kept, err := storedReceipt(c, id)
	if err == nil && !ok && (!kept || c.cfg.Store.Custom == nil && c.cfg.Store.Options.Retention.MaxReceipts == 0) {
		err = ErrNoReceipts
	}
	if err != nil || !ok {
		return Receipt{}, false, err
	}
	d := &r.Deferral
	out := Receipt{Outcome: restored(id, r.Result), At: r.At, Deferral: Deferral{d.Since, d.Until, d.Attempts, d.Code, d.Alone, d.GivenUp}}
	if out.Outcome.State == Pending {
		out.Outcome.Reason = d.Code
	}
	return out, true, nil
}

// storedReceipt returns what the store knows of a message. kept: it may know ended ones.
func storedReceipt(c *Client, id MessageID) (r persistence.Receipt, ok, kept bool, err error) {
	receipts, kept := optional[persistence.Receipts](c.store)
	if !kept {
		receipts = pendingOnly{c.store}
	}
	if p := c.functions().call("Store.Receipt", func() { r, ok, err = receipts.Receipt(id); _ = callback.Probe(err) }); p != nil {
		err = p
	}
	return r, ok, kept, err
}

// Cancel ends the newest pending message with this ID, if it was certainly not sent: its outcome is
// Dropped, with ErrCancelled. It returns false if the message may have been sent, has ended or is not
// known. Before Start it waits for Start. Errors: those of Receipt except ErrNoReceipts, and the cause of
// ctx; then the message may still be cancelled.
func (c *Client) Cancel(ctx context.Context, id MessageID) (bool, error) {
	if c == nil {
		return false, ErrNilClient
	}
	var r persistence.Receipt
	var ok bool
	var err error
	looked := make(chan struct{})
	go func() { // reading the disk may take longer than ctx
		defer close(looked)
		r, ok, _, err = storedReceipt(c, id)
	}()
	select {
	case <-looked:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if err != nil || !ok || State(r.Result.Kind) != Pending {
		return false, err
	}
	return c.outbox.Cancel(ctx, r.Seq)
}

// pendingOnly finds the pending messages of a store that keeps no receipts.
type pendingOnly struct{ persistence.Outbox }

func (s pendingOnly) Receipt(id [16]byte) (r persistence.Receipt, found bool, err error) {
	var at persistence.Cursor
	var e persistence.Entry
	look := func() {
		if e.ID == id && e.Seq >= r.Seq {
			r, found = persistence.Receipt{Seq: e.Seq, Deferral: e.Deferral}, true
		}
	}
	// A message may be deferred meanwhile, and never the other way round.
	for ok := true; ok && err == nil; at.Pass(&e) {
		if ok, err = s.Next(&at, &e); ok {
			look()
		}
	}
	for _, d := range s.Deferred() {
		if ok, failed := s.Get(d.Seq, &e); ok {
			look()
		} else if failed != nil {
			err = failed
		}
	}
	return r, found, err
}

// restored returns the Outcome for a result in the store.
func restored(id MessageID, stored persistence.Result) Outcome {
	o := Outcome{State: State(stored.Kind), Reason: stored.Reason}
	switch o.State {
	case Refused, DeadLettered:
		o.Err = &RefusedError{Code: stored.Reason}
	case Expired:
		o.Err = &ExpiredError{ID: id}
	case Dropped:
		o.Err = &DroppedError{ID: id}
	}
	return o
}

// DeadLetter is a refused message that the store keeps, see Config.Store.DeadLetters.
type DeadLetter struct {
	Message  Message // as published, with its ID
	Reason   byte    // the server's reason code, or the code for what the server does not accept
	Accepted time.Time

	seq uint64
}

// DeadLetters returns the dead letters of this process and earlier ones, in the order
// of acceptance. The loop may call Publish, Discard and Redeliver. An error of the store
// ends the loop.
func (c *Client) DeadLetters() iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		letters, err := c.deadLetters()
		if err != nil {
			yield(DeadLetter{}, err)
			return
		}
		more := true
		err = letters.DeadLetters(func(e *persistence.Entry, reason byte) bool {
			d, err := deadLetter(e, reason)
			more = yield(d, err) && err == nil
			return more
		})
		if err != nil && more {
			yield(DeadLetter{}, err)
		}
	}
}

func (c *Client) deadLetters() (persistence.DeadLetters, error) {
	if c == nil {
		return nil, ErrNilClient
	}
	if letters, ok := optional[persistence.DeadLetters](c.store); ok {
		return letters, nil
	}
	return nil, ErrNoDeadLetters
}

func deadLetter(e *persistence.Entry, reason byte) (DeadLetter, error) {
	d := DeadLetter{Reason: reason, Accepted: e.Accepted, seq: e.Seq}
	// A stored packet has no packet identifier. The reader wants one.
	image := wire.AppendImage(nil, e.Packet, 1, false, wire.Seconds(e.Expires.Sub(e.Accepted)))
	f, err := wire.NewReader(bytes.NewReader(image), 0).Next()
	if err != nil {
		return d, err
	}
	v, err := wire.ParsePublish(f)
	if err != nil {
		return d, err
	}
	p := v.Decode(string(v.Topic))
	d.Message = *received(&p)
	d.Message.ID, d.Message.Priority, d.Message.OnSessionLost = e.ID, e.Priority, e.OnSessionLost
	return d, nil
}

// Discard removes a dead letter. It returns nil if the dead letter does not exist.
func (c *Client) Discard(d DeadLetter) error {
	letters, err := c.deadLetters()
	if err != nil {
		return err
	}
	return letters.Discard(d.seq)
}

// Redeliver publishes a dead letter again, with the same ID, and discards it. Its Expiry
// counts from now. After an error of Publish the dead letter stays. A crash between the
// two steps leaves both.
func (c *Client) Redeliver(ctx context.Context, d DeadLetter) (*Delivery, error) {
	d.Message.Origin = Origin{} // it gets another number
	delivery, err := c.Publish(ctx, d.Message)
	if err != nil {
		return nil, err
	}
	return delivery, c.Discard(d)
}
