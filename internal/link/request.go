package link

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	pahosession "github.com/eclipse/paho.golang/paho/session"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// noTimeout replaces paho's own limit for answers. ConnectTimeout bounds CONNECT instead.
const noTimeout = 100 * 365 * 24 * time.Hour

// fits returns a *PacketTooLargeError for a packet that the server does not accept.
func (u *Up) fits(request io.WriterTo) error {
	size, err := request.WriteTo(io.Discard)
	return cmp.Or(err, u.checkSize(int(size)))
}

// Request is a SUBSCRIBE or UNSUBSCRIBE that was sent. paho's own methods are not used, because
// they wait for the answer before they send the next packet.
type Request struct {
	up      *Up
	kind    wire.Type // of the answer
	highest []byte    // for each filter, the highest reason code below 0x80 that the answer may contain
	answer  chan packets.ControlPacket
	began   time.Time
	stalled time.Duration // stall time of the connection until then
}

// Subscribe sends a SUBSCRIBE. Requests are sent in the order of the calls. If the packet exceeds
// the server's limit, the error is a *PacketTooLargeError and the connection stays up.
func (u *Up) Subscribe(s *paho.Subscribe) (*Request, error) {
	highest := make([]byte, len(s.Subscriptions))
	for i, o := range s.Subscriptions {
		highest[i] = o.QoS
	}
	return u.begin(s.Packet(), wire.SUBACK, highest)
}

// Unsubscribe sends an UNSUBSCRIBE, like Subscribe.
func (u *Up) Unsubscribe(s *paho.Unsubscribe) (*Request, error) {
	return u.begin(s.Packet(), wire.UNSUBACK, bytes.Repeat([]byte{0x7F}, len(s.Topics)))
}

func (u *Up) begin(p interface {
	pahosession.Packet
	io.WriterTo
}, kind wire.Type, highest []byte) (*Request, error) {
	if err := u.fits(p); err != nil {
		return nil, err
	}
	r := &Request{up: u, kind: kind, highest: highest, answer: make(chan packets.ControlPacket, 1), began: time.Now(), stalled: u.stallTime()}
	if err := u.manager.AddToSession(context.Background(), p, r.answer); err != nil {
		return nil, err
	}
	_, err := p.WriteTo(u.Conn)
	return r, err
}

// Wait waits for the answer and returns its reason codes and its Reason String. It waits at most AckTimeout after the
// request was sent; then the error is context.DeadlineExceeded. Time in which the reader stalls
// does not count, because the answer may have been received but not read.
//
// The answer must have one reason code for each filter [MQTT-3.8.4-6], and must not grant a higher
// QoS than requested. Otherwise it is a violation, which ends the connection. If any invalid answer
// of this kind ends the connection, the error is its *wire.Error.
func (r *Request) Wait(ctx context.Context) (reasons []byte, text string, err error) {
	u := r.up
	for left := u.ackTimeout; left > 0; left = u.ackTimeout - time.Since(r.began) + u.stallTime() - r.stalled {
		late := time.NewTimer(left)
		select {
		case p := <-r.answer:
			late.Stop()
			return r.reasons(p)
		case <-ctx.Done():
			late.Stop()
			return nil, "", cmp.Or(r.violation(), context.Cause(ctx))
		case <-late.C:
		}
	}
	return nil, "", context.DeadlineExceeded
}

func (r *Request) reasons(p packets.ControlPacket) (reasons []byte, text string, err error) {
	var props *packets.Properties
	switch ack := p.Content.(type) {
	case *packets.Suback:
		reasons, props = ack.Reasons, ack.Properties
	case *packets.Unsuback:
		reasons, props = ack.Reasons, ack.Properties
	default: // the connection has ended
		return nil, "", cmp.Or(r.violation(), paho.ErrConnectionLost)
	}
	if err := checkReasons(r.kind, reasons, r.highest); err != nil {
		r.up.Fail(err)
		return nil, "", err
	}
	if props != nil {
		text = wire.ReasonText(props.ReasonString)
	}
	return reasons, text, nil
}

// violation returns the error of an answer of this kind that has ended the connection, or nil.
func (r *Request) violation() error {
	if bad := (*wire.Error)(nil); errors.As(r.up.Cause(), &bad) && bad.Packet == r.kind {
		return bad
	}
	return nil
}
