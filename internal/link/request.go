package link

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// noTimeout is paho's own limit for answers. ConnectTimeout and withTimeout bound
// them instead.
const noTimeout = 100 * 365 * 24 * time.Hour

// fits returns a *PacketTooLargeError for a packet that the server does not accept.
func (u *Up) fits(request io.WriterTo) error {
	size, err := request.WriteTo(io.Discard)
	if limit := u.Gen.Limits.MaximumPacketSize; err == nil && limit > 0 && size > int64(limit) {
		err = &PacketTooLargeError{Size: int(size), Maximum: int(limit)}
	}
	return err
}

// withTimeout bounds how long a request waits for its answer: AckTimeout, not
// counting the time for which the reader stalled, since the answer may have been
// received and not read.
func (u *Up) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	began, stalled := time.Now(), u.stallTime()
	go func() {
		timer := time.NewTimer(u.ackTimeout)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			waited := time.Since(began) - (u.stallTime() - stalled)
			if waited >= u.ackTimeout {
				cancel(context.DeadlineExceeded)
				return
			}
			timer.Reset(u.ackTimeout - waited)
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// requestError is why a request got no answer.
func requestError(ctx context.Context, err error) error {
	if context.Cause(ctx) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}

// Subscribe sends a SUBSCRIBE and waits for its SUBACK, for AckTimeout at most; then
// the error is context.DeadlineExceeded. The error for a SUBSCRIBE that is larger
// than the server accepts is a *PacketTooLargeError, and the connection stays up. A
// SUBACK is a violation if it has not one reason code for each filter [MQTT-3.8.4-6],
// or grants a higher QoS than requested.
func (u *Up) Subscribe(ctx context.Context, s *paho.Subscribe) (*paho.Suback, error) {
	if err := u.fits(s.Packet()); err != nil {
		return nil, err
	}
	ctx, done := u.withTimeout(ctx)
	defer done()
	ack, err := u.client.Subscribe(ctx, s)
	if ack == nil {
		return nil, requestError(ctx, err)
	}
	requested := make([]byte, len(s.Subscriptions))
	for i, o := range s.Subscriptions {
		requested[i] = o.QoS
	}
	if violation := checkReasons(wire.SUBACK, ack.Reasons, requested); violation != nil {
		u.Fail(violation)
		return nil, violation
	}
	return ack, err
}

// Unsubscribe sends an UNSUBSCRIBE and waits for its UNSUBACK. Its errors are those
// of Subscribe.
func (u *Up) Unsubscribe(ctx context.Context, s *paho.Unsubscribe) (*paho.Unsuback, error) {
	if err := u.fits(s.Packet()); err != nil {
		return nil, err
	}
	ctx, done := u.withTimeout(ctx)
	defer done()
	ack, err := u.client.Unsubscribe(ctx, s)
	if ack == nil {
		return nil, requestError(ctx, err)
	}
	if violation := checkReasons(wire.UNSUBACK, ack.Reasons, bytes.Repeat([]byte{0x7F}, len(s.Topics))); violation != nil {
		u.Fail(violation)
		return nil, violation
	}
	return ack, err
}
