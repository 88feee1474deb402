package control

import (
	"errors"
	"reflect"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// FuzzParse checks for each packet type that the decoder neither panics nor returns an untyped
// error. An accepted packet must have the same meaning after it is written and read again.
func FuzzParse(f *testing.F) {
	f.Add(AppendConnect(nil, &Connect{ClientID: "c", HasUsername: true, Password: []byte("p"),
		Will: &Will{Topic: "w", Delay: 5, Payload: []byte("x")}, AuthMethod: "m", AuthData: []byte{1}}))
	f.Add(AppendConnack(nil, &Connack{ReceiveMaximum: 3, HasMaximumQoS: true, ReasonString: "r"}))
	f.Add(AppendSubscribe(nil, &Subscribe{PacketID: 1, SubscriptionID: 7, Subscriptions: []Subscription{{Filter: "a/+", QoS: 2}}}))
	f.Add(AppendSuback(nil, &Suback{PacketID: 1, Reasons: []byte{0, 1, 0x87}}))
	f.Add(AppendUnsubscribe(nil, &Unsubscribe{PacketID: 1, Filters: []string{"a"}}))
	f.Add(AppendUnsuback(nil, &Suback{PacketID: 1, Reasons: []byte{0x11}}))
	f.Add(AppendDisconnect(nil, &Disconnect{Reason: 0x8E, ReasonString: "r", HasSessionExpiry: true, SessionExpiry: 9}))
	f.Add(AppendAuth(nil, &Auth{Reason: 0x18, Method: "m", Data: []byte{1}}))
	f.Add(AppendPingreq(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		fr := wire.Frame{Header: b[0], Body: b[1:]}
		again(t, fr, wire.CONNECT, AppendConnect, ParseConnect)
		again(t, fr, wire.CONNACK, AppendConnack, ParseConnack)
		again(t, fr, wire.SUBSCRIBE, AppendSubscribe, ParseSubscribe)
		again(t, fr, wire.SUBACK, AppendSuback, ParseSuback)
		again(t, fr, wire.UNSUBSCRIBE, AppendUnsubscribe, ParseUnsubscribe)
		again(t, fr, wire.UNSUBACK, AppendUnsuback, ParseUnsuback)
		again(t, fr, wire.DISCONNECT, AppendDisconnect, ParseDisconnect)
		again(t, fr, wire.AUTH, AppendAuth, ParseAuth)
	})
}

func again[P any](t *testing.T, f wire.Frame, typ wire.Type, encode func([]byte, *P) []byte, decode func(wire.Frame) (P, error)) {
	f.Header = byte(typ)<<4 | f.Header&0x0F
	p, err := decode(f)
	if err != nil {
		if e := new(wire.Error); !errors.As(err, &e) || e.Packet != typ {
			t.Fatalf("%v: %#v", typ, err)
		}
		return
	}
	q, err := decode(frame(t, encode(nil, &p)))
	if err != nil || !reflect.DeepEqual(p, q) {
		t.Fatalf("%v: %+v became %+v (%v)", typ, p, q, err)
	}
}
