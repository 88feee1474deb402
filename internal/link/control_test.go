package link

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// A violation ends the connection with a DISCONNECT that contains the reason [MQTT-4.13.1-1], and
// with an error that describes it.
func TestConn_AnswersViolationsWithDisconnect(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes []byte
		code  byte
	}{
		"packet type 0":                  {[]byte{0x00, 0}, 0x81},
		"length not minimal":             {[]byte{0xD0, 0x80, 0}, 0x81},
		"larger than the client accepts": {[]byte{0x30, 0xFF, 0xFF, 0x7F}, 0x95},
		"header flags of PINGRESP":       {[]byte{0xD1, 0}, 0x81},
		"header flags of PUBREL":         {[]byte{0x60, 2, 0, 1}, 0x81},
		"PINGRESP with a body":           {[]byte{0xD0, 1, 0}, 0x81},
		"SUBACK too short":               {[]byte{0x90, 3, 0, 1, 0}, 0x81},
		"SUBACK without reason":          {[]byte{0x90, 6, 0, 1, 3, 0x1F, 0, 0}, 0x81},
		"SUBACK, bad property":           {[]byte{0x90, 7, 0, 1, 3, 0x21, 0, 1, 0}, 0x81},
		"UNSUBACK too short":             {[]byte{0xB0, 2, 0, 1}, 0x81},
		"UNSUBACK, properties cut":       {[]byte{0xB0, 4, 0, 1, 9, 0}, 0x81},
		"DISCONNECT, bytes behind":       {[]byte{0xE0, 3, 0, 0, 0}, 0x81},
		"DISCONNECT, properties cut":     {[]byte{0xE0, 2, 0x8B, 5}, 0x81},
		"DISCONNECT, reason not UTF8":    {[]byte{0xE0, 6, 0x8B, 4, 0x1F, 0, 1, 0xFF}, 0x81},
		"a second CONNACK":               {[]byte{0x20, 3, 0, 0, 0}, 0x82},
		"AUTH":                           {[]byte{0xF0, 0}, 0x82},
		"CONNECT":                        {control.AppendConnect(nil, &control.Connect{}), 0x82},
		"SUBSCRIBE":                      {[]byte{0x82, 7, 0, 1, 0, 0, 1, 'a', 0}, 0x82},
		"UNSUBSCRIBE":                    {[]byte{0xA2, 6, 0, 1, 0, 0, 1, 'a'}, 0x82},
		"PINGREQ":                        {[]byte{0xC0, 0}, 0x82},
		"PUBLISH with a wildcard":        {[]byte{0x30, 4, 0, 1, '#', 0}, 0x81},
		"PUBLISH with an alias":          {[]byte{0x30, 7, 0, 1, 't', 3, 0x23, 0, 1}, 0x94},
		"PUBACK, identifier 0":           {[]byte{0x40, 2, 0, 0}, 0x82},
		"PUBREC, unknown reason":         {[]byte{0x50, 3, 0, 1, 0x42}, 0x82},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, func(c *Config) { maxPacketSize(c, 1000) })
				p, _ := r.up(control.Connack{})
				p.send(tt.bytes)
				d, err := control.ParseDisconnect(p.next(wire.DISCONNECT))
				if err != nil || d.Reason != tt.code {
					t.Errorf("DISCONNECT with 0x%02X, %v, want 0x%02X", d.Reason, err, tt.code)
				}
				p.gone()
				wantCode(t, <-r.downs, tt.code)
				r.end()
			})
		})
	}
}

func TestConn_ReportsServerDisconnect(t *testing.T) {
	for _, tt := range []struct {
		packet []byte
		want   DisconnectError
	}{
		{[]byte{0xE0, 0}, DisconnectError{}},
		{[]byte{0xE0, 1, 0x8E}, DisconnectError{Reason: 0x8E}},
		{[]byte{0xE0, 2, 0x8B, 0}, DisconnectError{Reason: 0x8B}},
		{control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x9C, ReasonString: "moved", ServerReference: "other"}),
			DisconnectError{0x9C, "moved", "other"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, nil)
			p, _ := r.up(control.Connack{})
			p.send(tt.packet)
			p.gone()
			var d *DisconnectError
			if err := <-r.downs; !errors.As(err, &d) || *d != tt.want {
				t.Errorf("got %v, want %v", err, &tt.want)
			}
			r.end()
		})
	}
}

func TestRequest_SubscribeAndUnsubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, up := r.up(control.Connack{})
		done := make(chan error)
		go func() { done <- subscribe(up, "a/+") }()
		s, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
		if err != nil {
			t.Fatal(err)
		}
		p.send(wire.AppendPublish(nil, &wire.Publish{Topic: "a/b"})) // other packets are handled meanwhile
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: s.PacketID, Reasons: []byte{0}}))
		if err := <-done; err != nil {
			t.Error(err)
		}
		if topic := <-r.delivered; topic != "a/b" {
			t.Errorf("delivered %q", topic)
		}
		go func() {
			done <- answered(up.Unsubscribe(&paho.Unsubscribe{Topics: []string{"a/+"}}))
		}()
		u, err := control.ParseUnsubscribe(p.next(wire.UNSUBSCRIBE))
		if err != nil || u.PacketID == s.PacketID {
			t.Fatalf("identifier %d again, %v", u.PacketID, err)
		}
		_ = p.Close()
		if err := <-done; !errors.Is(err, paho.ErrConnectionLost) {
			t.Errorf("the request returned %v", err)
		}
		<-r.downs
		r.end()
	})
}

// Such a packet is never sent [MQTT-3.2.2-15], and the connection stays up.
func TestRequest_ExceedsMaximumPacketSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, up := r.up(control.Connack{MaximumPacketSize: 40})
		var large *PacketTooLargeError
		err := subscribe(up, "0123456789012345678901234567890123456789")
		if !errors.As(err, &large) || large.Maximum != 40 || large.Size <= 40 {
			t.Errorf("SUBSCRIBE: %v", err)
		}
		_, err = up.Unsubscribe(&paho.Unsubscribe{Topics: []string{"0123456789012345678901234567890123456789"}})
		if !errors.As(err, &large) {
			t.Errorf("UNSUBSCRIBE: %v", err)
		}
		done := make(chan error)
		go func() { done <- subscribe(up, "short") }()
		s, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
		if err != nil || s.Subscriptions[0].Filter != "short" {
			t.Errorf("%+v, %v", s, err)
		}
		p.send(control.AppendSuback(nil, &control.Suback{PacketID: s.PacketID, Reasons: []byte{0}}))
		if err := <-done; err != nil {
			t.Error(err)
		}
		r.end()
	})
}

// The Conn sends no packet above the limit, whatever paho writes.
func TestConn_SendsNoPacketAboveTheLimit(t *testing.T) {
	w := &gate{open: true}
	c := newConn(w, 0, time.Second)
	c.maxSend.Store(10)
	c.Lock()
	_, _ = c.Write(make([]byte, 6))
	_, _ = c.Write(make([]byte, 5))
	c.Unlock()
	var large *PacketTooLargeError
	if !errors.As(c.Cause(), &large) || *large != (PacketTooLargeError{11, 10}) || len(w.bytes()) != 0 {
		t.Errorf("cause %v, written %x", c.Cause(), w.bytes())
	}
	c.Lock()
	if _, err := c.Write([]byte{1}); !errors.As(err, &large) {
		t.Errorf("after that: %v", err)
	}
	c.Unlock()
}

// FuzzControl checks that paho can decode every packet that the Conn passes to it. DISCONNECT is an
// exception, because paho closes the connection in any case, and v0.23.0 cannot decode one without
// a body.
func FuzzControl(f *testing.F) {
	f.Add(control.AppendConnack(nil, &control.Connack{ReceiveMaximum: 3, ReasonString: "r", AuthMethod: "m", AuthData: []byte{1}}))
	f.Add(control.AppendSuback(nil, &control.Suback{PacketID: 1, Reasons: []byte{0, 0x87}, ReasonString: "r"}))
	f.Add(control.AppendUnsuback(nil, &control.Suback{PacketID: 1, Reasons: []byte{0x11}}))
	f.Add(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x9C, ServerReference: "s"}))
	f.Add([]byte{0xE0, 1, 0x8E})
	f.Add([]byte{0xD0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := wire.NewReader(bytes.NewReader(b), 0).Next()
		if err != nil || wire.CheckHeader(frame.Header) != nil {
			return
		}
		switch frame.Type() {
		case wire.DISCONNECT:
			_, err = parseDisconnect(frame.Body)
		case wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PINGRESP:
			err = checkControl(frame)
		default:
			return
		}
		var bad *wire.Error
		if err != nil {
			if !errors.As(err, &bad) || bad.Code < 0x80 {
				t.Fatalf("not a proper error: %v", err)
			}
			return
		}
		if _, err := packets.ReadPacket(bytes.NewReader(frame.Raw)); err != nil && frame.Type() != wire.DISCONNECT {
			t.Fatalf("paho refuses %x: %v", frame.Raw, err)
		}
	})
}

// TestRequest_InvalidAnswers checks that the caller gets an error that describes the server's
// mistake.
func TestRequest_InvalidAnswers(t *testing.T) {
	for asks, ask := range map[wire.Type]func(*Up) error{
		wire.SUBSCRIBE: func(up *Up) error { return subscribe(up, "a") },
		wire.UNSUBSCRIBE: func(up *Up) error {
			return answered(up.Unsubscribe(&paho.Unsubscribe{Topics: []string{"a"}}))
		},
	} {
		for name, answer := range map[string]func(id0, id1 byte) []byte{
			"two reason codes for one filter": func(id0, id1 byte) []byte { return []byte{5, id0, id1, 0, 0, 0} },
			"packet identifier of no request": func(id0, id1 byte) []byte { return []byte{4, id0, id1 + 1, 0, 0} },
		} {
			t.Run(asks.String()+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := run(t, nil)
					p, up := r.up(control.Connack{})
					done := make(chan error)
					go func() { done <- ask(up) }()
					id := p.next(asks).Body[:2]
					p.send(append([]byte{byte(asks+1) << 4}, answer(id[0], id[1])...))
					go func() { _, _ = p.r.Next() }() // the DISCONNECT
					wantCode(t, <-done, wire.ReasonProtocolError)
					wantCode(t, <-r.downs, wire.ReasonProtocolError)
					r.end()
				})
			})
		}
	}
}

// A server of an older MQTT version answers CONNECT with two bytes in its own format.
func TestConnect_RecognizesConnackOfMQTT311(t *testing.T) {
	err := checkControl(wire.Frame{Header: byte(wire.CONNACK) << 4, Body: []byte{0, 1}})
	if err == nil || !strings.Contains(err.Error(), "MQTT 5") {
		t.Errorf("%v; want what kind of server this is", err)
	}
}
