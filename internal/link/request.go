package link

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// noTimeout is paho's own limit for answers. ConnectTimeout and withTimeout bound them instead.
const noTimeout = 100 * 365 * 24 * time.Hour

// fits returns a *PacketTooLargeError for a packet that the server does not accept.
func (u *Up) fits(request io.WriterTo) error {
	size, err := request.WriteTo(io.Discard)
	return cmp.Or(err, u.checkSize(int(size)))
}

// withTimeout bounds how long a request waits for its answer: AckTimeout, not counting the time for
// which the reader stalled, since the answer may have been received and not read.
func (u *Up) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	began, stalled := time.Now(), u.stallTime()
	go func() {
		for left := u.ackTimeout; left > 0; left = u.ackTimeout - time.Since(began) + u.stallTime() - stalled {
			select {
			case <-ctx.Done():
				return
			case <-time.After(left):
			}
		}
		cancel(context.DeadlineExceeded)
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// Subscribe sends a SUBSCRIBE, waits for its SUBACK for AckTimeout at most, and returns its reason
// codes. Without an answer in time the error is context.DeadlineExceeded. The error for a SUBSCRIBE
// that is larger than the server accepts is a *PacketTooLargeError, and the connection stays up. A
// SUBACK is a violation if it has not one reason code for each filter [MQTT-3.8.4-6], or grants a
// higher QoS than requested.
func (u *Up) Subscribe(ctx context.Context, s *paho.Subscribe) (reasons []byte, err error) {
	requested := make([]byte, len(s.Subscriptions))
	for i, o := range s.Subscriptions {
		requested[i] = o.QoS
	}
	return u.request(ctx, s.Packet(), wire.SUBACK, requested, func(ctx context.Context) ([]byte, error) {
		ack, err := u.client.Subscribe(ctx, s)
		if ack == nil {
			return nil, err
		}
		return ack.Reasons, nil
	})
}

// Unsubscribe sends an UNSUBSCRIBE and waits for its UNSUBACK, like Subscribe.
func (u *Up) Unsubscribe(ctx context.Context, s *paho.Unsubscribe) (reasons []byte, err error) {
	highest := bytes.Repeat([]byte{0x7F}, len(s.Topics))
	return u.request(ctx, s.Packet(), wire.UNSUBACK, highest, func(ctx context.Context) ([]byte, error) {
		ack, err := u.client.Unsubscribe(ctx, s)
		if ack == nil {
			return nil, err
		}
		return ack.Reasons, nil
	})
}

// request sends a request that fits, and checks the reason codes of its answer.
func (u *Up) request(ctx context.Context, packet io.WriterTo, answer wire.Type, highest []byte, send func(context.Context) ([]byte, error)) ([]byte, error) {
	if err := u.fits(packet); err != nil {
		return nil, err
	}
	ctx, done := u.withTimeout(ctx)
	defer done()
	reasons, err := send(ctx)
	if err != nil {
		if context.Cause(ctx) == context.DeadlineExceeded {
			err = context.DeadlineExceeded
		}
		return nil, err
	}
	if err := checkReasons(answer, reasons, highest); err != nil {
		u.Fail(err)
		return nil, err
	}
	return reasons, nil
}
