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

// Receipt is the outcome of a message and the time at which it ended, by the store's clock. At is
// zero while the message is pending.
type Receipt struct {
	Outcome  Outcome
	At       time.Time
	Deferral Deferral // set if the message is deferred, or waits for a deferred message
}

// Deferral describes why the client does not send a pending message now, and until when. The zero
// value means that the message is not deferred.
type Deferral struct {
	Since    time.Time // when the message was first deferred
	Until    time.Time // earliest time at which the message is resent
	Attempts int       // how often the server refused the message; 0 if it waits for another message of its topic
	Code     byte      // reason code of the last refusal
	Alone    bool      // the message is sent alone, because it ended several connections
	// GivenUp means that the message is not sent again. The server may hold its packet identifier,
	// so the message ends only when the server has answered PUBREL for it.
	GivenUp bool
}

// Receipt returns the outcome of the newest message with this ID that this process or an earlier
// one accepted. Receipt always finds pending and deferred messages.
//
// The store keeps the outcomes of ended messages within Store.Options.Retention (MaxReceipts,
// ReceiptAge). If the store has no outcome for this ID, Receipt returns false. If the store keeps
// no outcomes at all, the error is ErrNoReceipts. Receipt also returns errors of the store.
// Outcome.Err is the same as in the Delivery, except for the server's reason string and the cause
// of a drop. The store does not keep these two.
//
// Receipt may read from the disk. If ctx ends first, Receipt returns its cause. If a custom store
// does not implement persistence.Receipts, Receipt reads all pending messages.
func (c *Client) Receipt(ctx context.Context, id MessageID) (Receipt, bool, error) {
	if c == nil {
		return Receipt{}, false, ErrNilClient
	}
	r, ok, kept, err := lookUp(ctx, c, id)
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

// lookUp calls storedReceipt and waits for it until ctx ends, because storedReceipt may read the
// disk.
func lookUp(ctx context.Context, c *Client, id MessageID) (persistence.Receipt, bool, bool, error) {
	if ctx.Done() == nil {
		return storedReceipt(c, id)
	}
	var r persistence.Receipt
	var ok, kept bool
	var err error
	looked := make(chan struct{})
	select {
	case c.life.reads <- struct{}{}:
		go func() { // a read cannot be canceled
			defer func() { <-c.life.reads; close(looked) }()
			r, ok, kept, err = storedReceipt(c, id)
		}()
	case <-ctx.Done():
	}
	select {
	case <-looked:
		return r, ok, kept, err
	case <-ctx.Done():
		return persistence.Receipt{}, false, false, context.Cause(ctx)
	}
}

// storedReceipt returns the store's receipt of a message. kept reports whether the store keeps
// receipts of ended messages.
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

// Cancel ends the newest pending message with this ID if the message was certainly not sent. The
// outcome is then Dropped, with ErrCancelled. Cancel returns false if the message may have been
// sent, is no longer pending, or is unknown. Before Start, Cancel waits for Start.
//
// Cancel returns the same errors as Receipt except ErrNoReceipts. If it returns the cause of ctx,
// the message may still be cancelled later.
func (c *Client) Cancel(ctx context.Context, id MessageID) (bool, error) {
	if c == nil {
		return false, ErrNilClient
	}
	r, ok, _, err := lookUp(ctx, c, id)
	if err != nil || !ok || State(r.Result.Kind) != Pending {
		return false, err
	}
	return c.outbox.Cancel(ctx, r.Seq)
}

// pendingOnly implements Receipt for a store that keeps no receipts. It finds pending messages
// only.
type pendingOnly struct{ persistence.Outbox }

func (s pendingOnly) Receipt(id [16]byte) (r persistence.Receipt, found bool, err error) {
	var at persistence.Cursor
	var e persistence.Entry
	look := func() {
		if e.ID == id && e.Seq >= r.Seq {
			r, found = persistence.Receipt{Seq: e.Seq, Deferral: e.Deferral}, true
		}
	}
	// A message may become deferred during the search, but a deferred message stays deferred. So
	// the deferred messages are read last.
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

// restored returns the Outcome for a stored result.
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

// DeadLetter is a refused message that the store kept, see Config.Store.DeadLetters.
type DeadLetter struct {
	Message  Message // as published, with its ID
	Reason   byte    // the server's reason code, or the code that means that the server does not support a feature
	Accepted time.Time

	seq uint64
}

// DeadLetters returns the dead letters of this process and earlier ones, in order of acceptance.
// The loop may call Publish, Discard and Redeliver. An error of the store ends the loop.
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
	// The stored packet has no packet identifier, but the reader requires one.
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

// Discard removes a dead letter. Discard returns nil if the dead letter does not exist.
func (c *Client) Discard(d DeadLetter) error {
	letters, err := c.deadLetters()
	if err != nil {
		return err
	}
	return letters.Discard(d.seq)
}

// Redeliver publishes a dead letter again under the same ID, and discards it. The Expiry of the
// message counts from now. If publishing fails, the store keeps the dead letter. After a crash
// between the two steps, both the new message and the dead letter exist.
func (c *Client) Redeliver(ctx context.Context, d DeadLetter) (*Delivery, error) {
	d.Message.Origin = Origin{} // Publish assigns a new number
	delivery, err := c.Publish(ctx, d.Message)
	if err != nil {
		return nil, err
	}
	return delivery, c.Discard(d)
}
