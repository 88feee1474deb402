package link

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// ever is paho's own limit for answers: none. Connecting has ConnectTimeout, and
// requests have patience.
const ever = 100 * 365 * 24 * time.Hour

// fits returns a *PacketTooLargeError for a request that the server will not
// take.
func (u *Up) fits(request io.WriterTo) error {
	size, err := request.WriteTo(io.Discard)
	if limit := u.Gen.Limits.MaximumPacketSize; err == nil && limit > 0 && size > int64(limit) {
		err = &PacketTooLargeError{Size: int(size), Maximum: int(limit)}
	}
	return err
}

// patience bounds how long a request waits for its answer: PacketTimeout, in which
// the time does not count that our reader stalled, since the answer may have been
// behind it.
func (u *Up) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	began, stalled := time.Now(), u.stallTime()
	go func() {
		timer := time.NewTimer(u.patient)
		defer timer.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
			waited := time.Since(began) - (u.stallTime() - stalled)
			if waited >= u.patient {
				cancel(context.DeadlineExceeded)
				return
			}
			timer.Reset(u.patient - waited)
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// answerless is why a request under patience got no answer.
func answerless(ctx context.Context, err error) error {
	if context.Cause(ctx) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}

// Subscribe sends a SUBSCRIBE and waits for its SUBACK, for PacketTimeout at most;
// then the error is context.DeadlineExceeded. A SUBSCRIBE that is larger than the
// server takes is a *PacketTooLargeError, and the connection stands. A SUBACK that
// is no answer to it, because it has not a reason code for each filter
// [MQTT-3.8.4-6] or grants more than was asked for, is a violation.
func (u *Up) Subscribe(ctx context.Context, s *paho.Subscribe) (*paho.Suback, error) {
	if err := u.fits(s.Packet()); err != nil {
		return nil, err
	}
	ctx, done := u.patience(ctx)
	defer done()
	ack, err := u.client.Subscribe(ctx, s)
	if ack == nil {
		return nil, answerless(ctx, err)
	}
	asked := make([]byte, len(s.Subscriptions))
	for i, o := range s.Subscriptions {
		asked[i] = o.QoS
	}
	if bad := checkReasons(wire.SUBACK, ack.Reasons, asked); bad != nil {
		u.Fail(bad)
		return nil, bad
	}
	return ack, err
}

// Unsubscribe sends an UNSUBSCRIBE and waits for its UNSUBACK; for its size, for
// how long, and for one that has not a reason code for each filter, see Subscribe.
func (u *Up) Unsubscribe(ctx context.Context, s *paho.Unsubscribe) (*paho.Unsuback, error) {
	if err := u.fits(s.Packet()); err != nil {
		return nil, err
	}
	ctx, done := u.patience(ctx)
	defer done()
	ack, err := u.client.Unsubscribe(ctx, s)
	if ack == nil {
		return nil, answerless(ctx, err)
	}
	if bad := checkReasons(wire.UNSUBACK, ack.Reasons, bytes.Repeat([]byte{0x7F}, len(s.Topics))); bad != nil {
		u.Fail(bad)
		return nil, bad
	}
	return ack, err
}
