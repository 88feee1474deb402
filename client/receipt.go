package client

import (
	"bytes"
	"context"
	"iter"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Receipt is what became of a message, and when by the store's clock. At is zero
// while it is pending.
type Receipt struct {
	Outcome Outcome
	At      time.Time
}

// Receipt tells what became of the message with this ID: of this process or an
// earlier one, as far as Store.Options.Retention.MaxReceipts and ReceiptAge reach. It returns
// false where nothing is known. Of several messages with one ID it tells the
// newest. Outcome.Err is as in the Delivery, without a reason string of the server
// and the cause of a drop, which are not kept. It may read the disk. Errors:
// ErrNoReceipts, and those of the store.
func (c *Client) Receipt(id MessageID) (Receipt, bool, error) {
	if c == nil {
		return Receipt{}, false, ErrNilClient
	}
	if c.cfg.Store.Custom == nil && c.cfg.Store.Options.Retention.MaxReceipts == 0 {
		return Receipt{}, false, ErrNoReceipts
	}
	receipts, ok := c.store.(persistence.Receipts)
	if !ok {
		return Receipt{}, false, ErrNoReceipts
	}
	r, ok, err := receipts.Receipt(id)
	if err != nil || !ok {
		return Receipt{}, false, err
	}
	return Receipt{Outcome: restored(id, r.Result), At: r.At}, true, nil
}

// restored is an outcome as the store has kept it.
func restored(id MessageID, stored persistence.Result) Outcome {
	o := Outcome{Reason: stored.Reason}
	switch stored.Kind {
	case persistence.Acked:
		o.State = Acked
	case persistence.Refused:
		o.State, o.Err = Refused, &RefusedError{Code: stored.Reason}
	case persistence.DeadLettered:
		o.State, o.Err = DeadLettered, &RefusedError{Code: stored.Reason}
	case persistence.Expired:
		o.State, o.Err = Expired, &ExpiredError{ID: id}
	case persistence.Dropped:
		o.State, o.Err = Dropped, &DroppedError{ID: id}
	}
	return o
}

// DeadLetter is a message that was refused and set aside, see Config.Store.DeadLetters.
type DeadLetter struct {
	Message  Message // as it was published, its ID included
	Reason   byte    // why: the reason code of the server, or the one that says what it cannot take
	Accepted time.Time

	seq uint64
}

// DeadLetters are the messages set aside, by this process or an earlier one, in
// the order they were accepted. The loop may publish, Discard and Redeliver. An
// error is the store's, and ends the loop.
func (c *Client) DeadLetters() iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		if c == nil {
			yield(DeadLetter{}, ErrNilClient)
			return
		}
		letters, ok := c.store.(persistence.DeadLetters)
		if !ok {
			yield(DeadLetter{}, ErrNoDeadLetters)
			return
		}
		more := true
		err := letters.DeadLetters(func(e *persistence.Entry, reason byte) bool {
			d, err := deadLetter(e, reason)
			more = yield(d, err) && err == nil
			return more
		})
		if err != nil && more {
			yield(DeadLetter{}, err)
		}
	}
}

func deadLetter(e *persistence.Entry, reason byte) (DeadLetter, error) {
	d := DeadLetter{Reason: reason, Accepted: e.Accepted, seq: e.Seq}
	// What is stored has no packet identifier, and as a packet needs one.
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

// Discard gives a dead letter up for good. One that is gone already is no error.
func (c *Client) Discard(d DeadLetter) error {
	if c == nil {
		return ErrNilClient
	}
	letters, ok := c.store.(persistence.DeadLetters)
	if !ok {
		return ErrNoDeadLetters
	}
	return letters.Discard(d.seq)
}

// Redeliver publishes a dead letter again, under its ID and with its Expiry from
// now on, and discards it. A crash between the two leaves both. Errors: those of
// Publish, and then it stays.
func (c *Client) Redeliver(ctx context.Context, d DeadLetter) (*Delivery, error) {
	delivery, err := c.Publish(ctx, d.Message)
	if err != nil {
		return nil, err
	}
	return delivery, c.Discard(d)
}
