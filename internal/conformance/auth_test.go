package conformance

import (
	"bytes"
	"testing"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 3.15 and 4.12: AUTH, for a client that authenticates by CONNECT alone.

// The flags of AUTH are reserved and MUST all be 0. The Client or Server MUST
// treat any other value as malformed and close the Network Connection.
func TestMQTT_3_15_1_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		_, conn := r.start(control.Connack{})
		for flags := byte(1); flags < 16; flags++ {
			r.wantEnd(conn, 0x81, []byte{0xF0 | flags, 6, 0x18, 4, 0x15, 0, 1, 'm'})
			conn, _ = r.Open()
			conn.Send([]byte{0xF0 | flags, 6, 0x18, 4, 0x15, 0, 1, 'm'}) // before CONNACK
			conn.ExpectClosed()
			conn, _ = r.Connect(control.Connack{SessionPresent: true})
		}
	})
}

// If the Client does not include an Authentication Method in the CONNECT, the
// Server MUST NOT send an AUTH packet: it is a violation.
func TestMQTT_4_12_0_6(t *testing.T) {
	for _, a := range []control.Auth{{}, {Reason: 0x18, Method: "m"}, {Reason: 0x19, Method: "m", Data: []byte("d")}} {
		onRig(t, func(t *testing.T, r *rig) {
			r.client()
			conn, _ := r.Open()
			conn.Auth(a)
			conn.ExpectClosed()
			conn, _ = r.Connect(control.Connack{})
			r.wantEnd(conn, 0x82, control.AppendAuth(nil, &a))
		})
	}
}

// If the Client does not include an Authentication Method in the CONNECT, the
// Client MUST NOT send an AUTH packet to the Server: whatever that sends.
func TestMQTT_4_12_0_7(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Username, r.cfg.Password = "u", []byte("p")
		c := r.client()
		ask := control.Auth{Reason: 0x18, Method: "m", Data: []byte("d")}
		conn, connect := r.Open()
		if connect.AuthMethod != "" || connect.AuthData != nil {
			t.Errorf("CONNECT is %+v", connect)
		}
		conn.Auth(ask)
		if got := conn.Rest(); len(got) != 0 {
			t.Errorf("%v is sent before CONNACK", got[0].Type())
		}
		conn, _ = r.Connect(control.Connack{})
		conn.Quiet()
		conn.Auth(ask)
		for _, f := range conn.Rest() {
			if f.Type() == wire.AUTH {
				t.Error("AUTH is answered with AUTH")
			}
		}
		conn, _ = r.Open() // a CONNACK that speaks of a method nobody named
		conn.Connack(control.Connack{SessionPresent: true, AuthMethod: "m", AuthData: []byte("d")})
		conn.Quiet()
		r.publish(c, client.AtLeastOnce, "p")
		r.wantPublish(conn, "p", false)
		if bytes.Contains(conn.Heard(), []byte{0xF0}) {
			t.Errorf("the client sent % x", conn.Heard())
		}
	})
}
