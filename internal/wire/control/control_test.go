package control

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// frame returns the only packet in b.
func frame(t testing.TB, b []byte) wire.Frame {
	t.Helper()
	f, err := wire.NewReader(bytes.NewReader(b), 0).Next()
	if err != nil {
		t.Fatalf("%x is not a whole packet: %v", b, err)
	}
	if len(f.Raw) != len(b) {
		t.Fatalf("%x holds more than one packet", b)
	}
	return f
}

// generator creates random packets with absent, empty and full fields.
type generator struct{ *rand.Rand }

func (g generator) yes() bool { return g.IntN(2) == 0 }

func (g generator) text() string {
	return []string{"", "a", "plant/7/temp", "温度/部屋", "with space"}[g.IntN(5)]
}

func (g generator) data() []byte {
	return [][]byte{nil, {}, {0, 1, 2, 255}, bytes.Repeat([]byte{7}, 300)}[g.IntN(4)]
}

func (g generator) users() (u []wire.UserProperty) {
	for range g.IntN(3) {
		u = append(u, wire.UserProperty{Key: g.text(), Value: g.text()})
	}
	return u
}

func (g generator) pick(codes string) byte { return codes[g.IntN(len(codes))] }

func (g generator) connect() Connect {
	c := Connect{
		ClientID: g.text(), CleanStart: g.yes(), KeepAlive: uint16(g.Uint32()), HasUsername: g.yes(), Password: g.data(),
		SessionExpiry: g.Uint32(), ReceiveMaximum: uint16(g.IntN(3)), MaximumPacketSize: uint32(g.IntN(3)),
		TopicAliasMaximum: uint16(g.IntN(3)), RequestResponseInfo: g.yes(), NoProblemInfo: g.yes(), User: g.users(),
	}
	if c.HasUsername {
		c.Username = g.text()
	}
	if c.AuthMethod = g.text(); c.AuthMethod != "" {
		c.AuthData = g.data()
	}
	if g.yes() {
		c.Will = &Will{QoS: byte(g.IntN(3)), Retain: g.yes(), Delay: uint32(g.IntN(3)), Topic: "t/" + g.text(),
			Payload: append([]byte{}, g.data()...)}
		var props wire.Properties
		if g.yes() {
			props = wire.AppendProperty(props, wire.Property{ID: wire.PropMessageExpiry, Int: g.Uint32()})
		}
		if g.yes() {
			props = wire.AppendProperty(props, wire.Property{ID: wire.PropContentType, Bytes: []byte(g.text())})
		}
		if u := g.users(); len(u) > 0 {
			props = wire.AppendProperty(props, wire.Property{ID: wire.PropUser, Bytes: []byte(u[0].Key), Value: []byte(u[0].Value)})
		}
		c.Will.Properties = props
	}
	return c
}

func (g generator) connack() Connack {
	c := Connack{
		Reason: g.pick(connackReasons), HasSessionExpiry: g.yes(), ReceiveMaximum: uint16(g.IntN(3)), HasMaximumQoS: g.yes(),
		RetainUnavailable: g.yes(), MaximumPacketSize: uint32(g.IntN(3)), AssignedClientID: g.text(),
		TopicAliasMaximum: uint16(g.IntN(3)), ReasonString: g.text(), WildcardUnavailable: g.yes(), SubIDUnavailable: g.yes(),
		SharedUnavailable: g.yes(), HasServerKeepAlive: g.yes(), ResponseInfo: g.text(), ServerReference: g.text(), User: g.users(),
	}
	c.SessionPresent = c.Reason == 0 && g.yes()
	if c.HasSessionExpiry {
		c.SessionExpiry = g.Uint32()
	}
	if c.HasMaximumQoS {
		c.MaximumQoS = byte(g.IntN(2))
	}
	if c.HasServerKeepAlive {
		c.ServerKeepAlive = uint16(g.Uint32())
	}
	if c.AuthMethod = g.text(); c.AuthMethod != "" {
		c.AuthData = g.data()
	}
	return c
}

func (g generator) subscribe() Subscribe {
	s := Subscribe{PacketID: 1 + uint16(g.IntN(65535)), SubscriptionID: uint32(g.IntN(3)), User: g.users()}
	for range 1 + g.IntN(3) {
		s.Subscriptions = append(s.Subscriptions, Subscription{Filter: "f/" + g.text(), QoS: byte(g.IntN(3)),
			NoLocal: g.yes(), RetainAsPublished: g.yes(), RetainHandling: byte(g.IntN(3))})
	}
	return s
}

func (g generator) suback(codes string) Suback {
	s := Suback{PacketID: 1 + uint16(g.IntN(65535)), ReasonString: g.text(), User: g.users()}
	for range 1 + g.IntN(4) {
		s.Reasons = append(s.Reasons, g.pick(codes))
	}
	return s
}

func TestPackets_RoundTrip(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 0))}
	for range 2000 {
		same(t, g.connect(), AppendConnect, ParseConnect)
		same(t, g.connack(), AppendConnack, ParseConnack)
		same(t, g.subscribe(), AppendSubscribe, ParseSubscribe)
		same(t, g.suback(subackReasons), AppendSuback, ParseSuback)
		same(t, g.suback(unsubackReasons), AppendUnsuback, ParseUnsuback)
		same(t, Unsubscribe{PacketID: 9, User: g.users(), Filters: []string{"a", "b/" + g.text()}}, AppendUnsubscribe, ParseUnsubscribe)
		d := Disconnect{Reason: g.pick(disconnectReasons), HasSessionExpiry: g.yes(), ReasonString: g.text(), ServerReference: g.text(), User: g.users()}
		if d.HasSessionExpiry {
			d.SessionExpiry = g.Uint32()
		}
		same(t, d, AppendDisconnect, ParseDisconnect)
		same(t, Auth{Reason: g.pick("\x00\x18\x19"), Method: "m" + g.text(), Data: g.data(), ReasonString: g.text(), User: g.users()}, AppendAuth, ParseAuth)
	}
	for _, b := range [][]byte{AppendPingreq(nil), AppendPingresp(nil)} {
		if err := ParsePing(frame(t, b)); err != nil {
			t.Errorf("%x: %v", b, err)
		}
	}
}

func same[P any](t *testing.T, want P, encode func([]byte, *P) []byte, decode func(wire.Frame) (P, error)) {
	t.Helper()
	b := encode(nil, &want)
	got, err := decode(frame(t, b))
	if err != nil {
		t.Fatalf("%x does not read back: %v", b, err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("wrote %+v\n read %+v", want, got)
	}
}

func TestParse_RefusesTruncatedPackets(t *testing.T) {
	c := generator{rand.New(rand.NewPCG(8, 0))}.connect()
	c.HasUsername, c.Username, c.Password, c.Will = true, "u", []byte("p"), &Will{Topic: "w", Payload: []byte("x")}
	f := frame(t, AppendConnect(nil, &c))
	for n := range len(f.Body) {
		cut := wire.Frame{Header: f.Header, Body: f.Body[:n]}
		if _, err := ParseConnect(cut); err == nil {
			t.Errorf("the first %d of %d bytes were accepted", n, len(f.Body))
		}
	}
}

func TestParse_RefusesViolations(t *testing.T) {
	connect := func(change func(b []byte)) []byte {
		b := AppendConnect(nil, &Connect{ClientID: "c", CleanStart: true})
		change(b)
		return b
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		code   byte
	}{
		{"MQTT 3.1.1", []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'}, ReasonUnsupportedVersion},
		{"MQTT 3.1", []byte{0x10, 15, 0, 6, 'M', 'Q', 'I', 's', 'd', 'p', 3, 2, 0, 60, 0, 1, 'c'}, ReasonUnsupportedVersion},
		{"another protocol", []byte{0x10, 6, 0, 4, 'A', 'M', 'Q', 'P'}, ReasonUnsupportedVersion},
		{"reserved connect flag", connect(func(b []byte) { b[9] |= 1 }), 0x81},
		{"will QoS without a will", connect(func(b []byte) { b[9] |= 0x08 }), 0x81},
		{"will retain without a will", connect(func(b []byte) { b[9] |= 0x20 }), 0x81},
		{"will QoS 3", AppendConnect(nil, &Connect{Will: &Will{Topic: "w", QoS: 3}}), 0x81},
		{"reserved header flags of CONNECT", connect(func(b []byte) { b[0] |= 1 }), 0x81},
		{"wildcard in the Will Topic", AppendConnect(nil, &Connect{Will: &Will{Topic: "a/#"}}), 0x90},
		{"client identifier with U+0000", AppendConnect(nil, &Connect{ClientID: "a\x00b"}), 0x81},
		{"user name of bad UTF-8", AppendConnect(nil, &Connect{HasUsername: true, Username: "\xff"}), 0x81},
		{"authentication data without method", AppendConnect(nil, &Connect{AuthData: []byte{1}}), 0x82},
		{"twice the same property", []byte{0x10, 23, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 10,
			0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 2, 0, 0}, 0x82},
		{"Receive Maximum 0", []byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 3, 0x21, 0, 0, 0, 0}, 0x82},
		{"bytes after the last field", append(AppendConnect(nil, &Connect{})[:1], append([]byte{14}, append(AppendConnect(nil, &Connect{})[2:], 0)...)...), 0x81},

		{"CONNACK with Session Present in a refusal", AppendConnack(nil, &Connack{SessionPresent: true, Reason: 0x87}), 0x82},
		{"CONNACK with unknown reason", AppendConnack(nil, &Connack{Reason: 0x01}), 0x82},
		{"CONNACK with reserved flags", []byte{0x20, 3, 2, 0, 0}, 0x81},

		{"SUBSCRIBE without filter", AppendSubscribe(nil, &Subscribe{PacketID: 1}), 0x82},
		{"SUBSCRIBE with identifier 0", AppendSubscribe(nil, &Subscribe{Subscriptions: []Subscription{{Filter: "a"}}}), 0x82},
		{"SUBSCRIBE with an empty filter", AppendSubscribe(nil, &Subscribe{PacketID: 1, Subscriptions: []Subscription{{}}}), 0x82},
		{"SUBSCRIBE with QoS 3", AppendSubscribe(nil, &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "a", QoS: 3}}}), 0x82},
		{"SUBSCRIBE with Retain Handling 3", AppendSubscribe(nil, &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "a", RetainHandling: 3}}}), 0x82},
		{"SUBSCRIBE with reserved option bits", AppendSubscribe(nil, &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "a", QoS: 0x40}}}), 0x81},
		{"SUBSCRIBE with No Local on a Shared Subscription", AppendSubscribe(nil, &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "$share/g/a", NoLocal: true}}}), 0x82},
		{"SUBSCRIBE with header flags 0", append([]byte{0x80}, AppendSubscribe(nil, &Subscribe{PacketID: 1, Subscriptions: []Subscription{{Filter: "a"}}})[1:]...), 0x81},
		{"SUBSCRIBE with Subscription Identifier 0", []byte{0x82, 9, 0, 1, 2, 0x0B, 0, 0, 1, 'a', 0}, 0x82},
		{"UNSUBSCRIBE without filter", AppendUnsubscribe(nil, &Unsubscribe{PacketID: 1}), 0x82},
		{"SUBACK without reason", AppendSuback(nil, &Suback{PacketID: 1}), 0x82},
		{"SUBACK with a reason of UNSUBACK", AppendSuback(nil, &Suback{PacketID: 1, Reasons: []byte{0x11}}), 0x82},
		{"UNSUBACK with a reason of SUBACK", AppendUnsuback(nil, &Suback{PacketID: 1, Reasons: []byte{0x02}}), 0x82},
		{"DISCONNECT with unknown reason", AppendDisconnect(nil, &Disconnect{Reason: 0x01}), 0x82},
		{"DISCONNECT with a property of CONNECT", []byte{0xE0, 5, 0, 3, 0x21, 0, 1}, 0x81},
		{"AUTH without method", AppendAuth(nil, &Auth{Reason: 0x18}), 0x82},
		{"PINGREQ with a body", []byte{0xC0, 1, 0}, 0x81},
	} {
		var e *wire.Error
		if err := parse(frame(t, tt.packet)); !errors.As(err, &e) {
			t.Errorf("%s: got %v, want a *wire.Error", tt.name, err)
		} else if e.Code != tt.code {
			t.Errorf("%s: reason code 0x%02X, want 0x%02X (%v)", tt.name, e.Code, tt.code, e)
		}
	}
}

func TestParse_ResultOwnsItsMemory(t *testing.T) {
	want := Connect{ClientID: "c", Password: []byte("secret"), Will: &Will{Topic: "w", Payload: []byte("gone"),
		Properties: wire.AppendProperty(nil, wire.Property{ID: wire.PropContentType, Bytes: []byte("x/y")})},
		AuthMethod: "m", AuthData: []byte{1, 2, 3}, User: []wire.UserProperty{{Key: "k", Value: "v"}}}
	f := frame(t, AppendConnect(nil, &want))
	got, err := ParseConnect(f)
	if err != nil {
		t.Fatal(err)
	}
	clear(f.Raw)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("after the frame was used again: %+v", got)
	}
}

func TestParse_RefusesOtherTypes(t *testing.T) {
	if _, err := ParseConnack(frame(t, AppendPingreq(nil))); err == nil {
		t.Error("a PINGREQ was read as a CONNACK")
	}
}

// parse decodes a frame of any type that this package supports.
func parse(f wire.Frame) (err error) {
	switch f.Type() {
	case wire.CONNECT:
		_, err = ParseConnect(f)
	case wire.CONNACK:
		_, err = ParseConnack(f)
	case wire.SUBSCRIBE:
		_, err = ParseSubscribe(f)
	case wire.SUBACK:
		_, err = ParseSuback(f)
	case wire.UNSUBSCRIBE:
		_, err = ParseUnsubscribe(f)
	case wire.UNSUBACK:
		_, err = ParseUnsuback(f)
	case wire.DISCONNECT:
		_, err = ParseDisconnect(f)
	case wire.AUTH:
		_, err = ParseAuth(f)
	default:
		err = ParsePing(f)
	}
	return err
}

// Two tables list the reason codes of a server: that of this package, and that of package wire,
// which the client uses. They differ where the client is more tolerant, and for codes that only a
// client may send.
func TestServerReasons_MatchPackageWire(t *testing.T) {
	for i := range 0x100 {
		code := byte(i)
		for packet, codes := range map[wire.Type]string{wire.CONNACK: connackReasons, wire.SUBACK: subackReasons,
			wire.UNSUBACK: unsubackReasons, wire.DISCONNECT: disconnectReasons, wire.AUTH: "\x00\x18\x19"} {
			want := has(codes, code)
			if packet == wire.DISCONNECT && (code == 0x04 || code == 0x8C) {
				want = !want
			}
			if got := wire.CheckServerReason(packet, code) == nil; got != want {
				t.Errorf("%v 0x%02X: %v, want %v", packet, code, got, want)
			}
		}
	}
}
