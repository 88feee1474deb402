package conformance

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Sections 3.15 and 4.12: AUTH.

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

// credential answers each challenge except "bad".
type credential struct{ method string }

var errBad = errors.New("bad")

func (a *credential) Method() string                              { return a.method }
func (a *credential) Start(context.Context) ([]byte, error)       { return []byte("first"), nil }
func (a *credential) Done(ctx context.Context, data []byte) error { return judge(data) }
func (a *credential) Continue(_ context.Context, challenge []byte) ([]byte, error) {
	return append([]byte("to "), challenge...), judge(challenge)
}

func judge(data []byte) error {
	if string(data) == "bad" {
		return errBad
	}
	return nil
}

// onAuthRig is like onRig, for a client that authenticates with the method "m".
func onAuthRig(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.Auth = &credential{"m"}
		r.cfg.Connection.ConnectTimeout = 5 * time.Second
		test(t, r)
	})
}

// authenticated is an accepting CONNACK for the method "m".
var authenticated = control.Connack{AuthMethod: "m"}

// authBytes returns an AUTH without optional parts.
func authBytes(reason byte, method, data string) []byte {
	return raw(0xF0, reason, props(wire.PropAuthMethod, method, wire.PropAuthData, data))
}

// reauthenticate starts a re-authentication on another goroutine.
func reauthenticate(c *client.Client) <-chan error {
	return asks(func() error { return c.Reauthenticate(context.Background()) })
}

// wantExchanges makes the client answer two challenges during the connection attempt and two in a
// re-authentication, and checks the bytes of each AUTH.
func wantExchanges(t *testing.T, ack control.Connack) {
	t.Helper()
	onAuthRig(t, func(t *testing.T, r *rig) {
		c := r.client()
		conn, connect := r.Open()
		if connect.AuthMethod != "m" || string(connect.AuthData) != "first" {
			t.Errorf("CONNECT is %+v", connect)
		}
		for _, challenge := range []string{"a", "b"} {
			conn.Auth(control.Auth{Reason: 0x18, Method: "m", Data: []byte(challenge), ReasonString: "r", User: []wire.UserProperty{{Key: "k", Value: "v"}}})
			conn.ExpectBytes(authBytes(0x18, "m", "to "+challenge))
		}
		ack.AuthMethod = "m"
		conn.Connack(ack)
		r.await(c)
		for range 2 {
			done := reauthenticate(c)
			conn.ExpectBytes(authBytes(0x19, "m", "first"))
			for _, challenge := range []string{"c", "d"} {
				conn.Auth(control.Auth{Reason: 0x18, Method: "m", Data: []byte(challenge)})
				conn.ExpectBytes(authBytes(0x18, "m", "to "+challenge))
			}
			conn.Auth(control.Auth{Method: "m", Data: []byte("fine")})
			r.must(<-done)
		}
		r.publish(c, client.AtMostOnce, "p")
		r.wantPublish(conn, "p", false)
	})
}

// The sender of the AUTH Packet MUST use one of the Authenticate Reason Codes. A client may use
// 0x18 and 0x19.
func TestMQTT_3_15_2_1(t *testing.T) { wantExchanges(t, control.Connack{}) }

// authIsShort checks that AUTH has neither Reason String nor User Property. It also checks that
// AUTH is not sent if its data alone exceed the server's limit.
func authIsShort(t *testing.T) {
	t.Helper()
	const limit = 17
	if n := len(authBytes(0x18, "m", "to c")); n != limit-2 {
		t.Fatalf("AUTH has %d bytes", n)
	}
	wantExchanges(t, control.Connack{MaximumPacketSize: limit})
	onAuthRig(t, func(t *testing.T, r *rig) {
		ack := control.Connack{MaximumPacketSize: limit, AuthMethod: "m"}
		c, conn := r.start(ack)
		done := reauthenticate(c)
		conn.ExpectAuth()
		conn.Auth(control.Auth{Reason: 0x18, Method: "m", Data: []byte("cde")})
		conn.ExpectBytes(authBytes(0x18, "m", "to cde")) // the largest possible AUTH
		conn.Auth(control.Auth{Reason: 0x18, Method: "m", Data: []byte("cdef")})
		conn.ExpectDisconnect(0x80)
		var gaveUp *client.AuthError
		if err := <-done; !errors.As(err, &gaveUp) {
			t.Errorf("the error is %v, want a *AuthError", err)
		}
	})
}

// The sender MUST NOT send a Reason String that makes the AUTH larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_15_2_2(t *testing.T) { authIsShort(t) }

// The sender MUST NOT send a User Property that makes the AUTH larger than the
// receiver's Maximum Packet Size.
func TestMQTT_3_15_2_3(t *testing.T) { authIsShort(t) }

// The Client responds to an AUTH packet from the Server by sending a further AUTH
// packet, with Reason Code 0x18; or it ends the connection.
func TestMQTT_4_12_0_3(t *testing.T) {
	wantExchanges(t, control.Connack{})
	onAuthRig(t, func(t *testing.T, r *rig) {
		r.client()
		conn, _ := r.Open()
		conn.Auth(control.Auth{Reason: 0x18, Method: "m", Data: []byte("bad")})
		conn.ExpectDisconnect(0x80)
		r.Connect(authenticated)
		var gaveUp *client.AuthError
		if got := eventsOf[client.ConnectFailed](r); len(got) != 1 || !errors.As(got[0].Err, &gaveUp) || !errors.Is(got[0].Err, errBad) {
			t.Errorf("the events are %+v, want one with a *AuthError", got)
		}
	})
}

// If the CONNECT included an Authentication Method, all AUTH packets, and any successful CONNACK,
// MUST include the same method. The client does so, and treats other methods as a violation.
func TestMQTT_4_12_0_5(t *testing.T) {
	wantExchanges(t, control.Connack{})
	ask := func(method string) []byte { return authBytes(0x18, method, "d") }
	for name, packet := range map[string][]byte{
		"AUTH with another":    ask("M"),
		"AUTH with none":       raw(0xF0, 0x18, props(wire.PropAuthData, "d")),
		"AUTH without a body":  {0xF0, 0},
		"AUTH of an empty one": ask(""),
		"CONNACK with another": control.AppendConnack(nil, &control.Connack{AuthMethod: "mm"}),
		"CONNACK with none":    control.AppendConnack(nil, &control.Connack{}),
	} {
		t.Run(name, func(t *testing.T) {
			onAuthRig(t, func(t *testing.T, r *rig) {
				r.client()
				conn, _ := r.Open()
				conn.Send(packet)
				conn.ExpectDisconnect(0x82)
				r.Connect(authenticated)
				r.wantViolations(client.ProtocolError{Code: 0x82, Packet: wire.Type(packet[0] >> 4).String()})
			})
		})
	}
	onAuthRig(t, func(t *testing.T, r *rig) { // while the connection is up
		c, conn := r.start(authenticated)
		done := reauthenticate(c)
		conn.ExpectAuth()
		r.wantEnd(conn, 0x82, ask("M"))
		var bad *client.ProtocolError
		if err := <-done; !errors.As(err, &bad) {
			t.Errorf("the error is %v, want a *ProtocolError", err)
		}
	})
	onAuthRig(t, func(t *testing.T, r *rig) { // a refusal need not name it
		r.client()
		conn, _ := r.Open()
		conn.Connack(control.Connack{Reason: 0x88})
		conn.ExpectClosed()
	})
}

// wantViolations checks that the failed connection attempts failed because of these violations.
func (r *rig) wantViolations(want ...client.ProtocolError) {
	r.t.Helper()
	got := eventsOf[client.ConnectFailed](r)
	if len(got) != len(want) {
		r.t.Fatalf("%d attempts failed, want %d: %+v", len(got), len(want), got)
	}
	for i, e := range got {
		var bad *client.ProtocolError
		if !errors.As(e.Err, &bad) || bad.Code != want[i].Code || bad.Packet != want[i].Packet {
			r.t.Errorf("attempt %d failed over %v, want %v 0x%02X", i+1, e.Err, want[i].Packet, want[i].Code)
		}
	}
}

// If the Client does not include an Authentication Method in the CONNECT, the Server MUST NOT send
// an AUTH packet, nor an Authentication Method in the CONNACK. Both are violations. With a method
// they are allowed.
func TestMQTT_4_12_0_6(t *testing.T) {
	for _, a := range []control.Auth{{}, {Reason: 0x18, Method: "m"}, {Reason: 0x19, Method: "m", Data: []byte("d")}} {
		onRig(t, func(t *testing.T, r *rig) {
			r.client()
			conn, _ := r.Open()
			conn.Auth(a)
			conn.ExpectDisconnect(0x82)
			conn, _ = r.Connect(control.Connack{})
			r.wantViolations(client.ProtocolError{Code: 0x82, Packet: "AUTH"})
			r.wantEnd(conn, 0x82, control.AppendAuth(nil, &a))
		})
	}
	for _, method := range []string{"m", ""} {
		onRig(t, func(t *testing.T, r *rig) {
			r.client()
			conn, _ := r.Open()
			conn.Send(raw(0x20, 0, 0, props(wire.PropAuthMethod, method)))
			conn.ExpectDisconnect(0x82)
			r.Connect(control.Connack{})
			r.wantViolations(client.ProtocolError{Code: 0x82, Packet: "CONNACK"})
			if got := eventsOf[client.Connected](r); len(got) != 1 {
				t.Errorf("%d connections were reported, want 1", len(got))
			}
		})
	}
	onAuthRig(t, func(t *testing.T, r *rig) {
		_, conn := r.start(authenticated)
		conn.Quiet()
	})
}

// If the Client does not include an Authentication Method in the CONNECT, the Client MUST NOT send
// an AUTH packet to the Server, whatever the server sends and the application requests. With a
// method it sends them.
func TestMQTT_4_12_0_7(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Connection.Username, r.cfg.Connection.Password = "u", []byte("p")
		c := r.client()
		ask := control.Auth{Reason: 0x18, Method: "m", Data: []byte("d")}
		wantNone := func(conn *fakebroker.Conn) {
			t.Helper()
			for _, f := range conn.Rest() {
				if f.Type() != wire.DISCONNECT {
					t.Errorf("%v is sent", f.Type())
				}
			}
		}
		conn, connect := r.Open()
		if connect.AuthMethod != "" || connect.AuthData != nil {
			t.Errorf("CONNECT is %+v", connect)
		}
		conn.Auth(ask)
		wantNone(conn)
		conn, _ = r.Open() // a CONNACK with a method that CONNECT did not name
		conn.Connack(control.Connack{AuthMethod: "m", AuthData: []byte("d")})
		wantNone(conn)
		conn, _ = r.Connect(control.Connack{})
		r.await(c)
		if err := c.Reauthenticate(t.Context()); err == nil {
			t.Error("a re-authentication without a method is no error")
		}
		conn.Quiet()
		conn.Auth(ask)
		wantNone(conn)
		conn, _ = r.Connect(control.Connack{SessionPresent: true})
		r.publish(c, client.AtLeastOnce, "p")
		r.wantPublish(conn, "p", false)
		if bytes.Contains(conn.Heard(), []byte{0xF0}) {
			t.Errorf("the client sent % x", conn.Heard())
		}
	})
	wantExchanges(t, control.Connack{})
}

// A re-authentication is an AUTH with Reason Code 0x19, after CONNACK. It MUST name
// the Authentication Method that the connection was authenticated with.
func TestMQTT_4_12_1_1(t *testing.T) {
	wantExchanges(t, control.Connack{})
	onAuthRig(t, func(t *testing.T, r *rig) {
		changing := &credential{"m"}
		r.cfg.Connection.Auth = changing
		c := r.client()
		if err := c.Reauthenticate(t.Context()); !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("before CONNACK the error is %v", err)
		}
		conn, _ := r.Connect(authenticated)
		r.await(c)
		changing.method = "other"
		done := reauthenticate(c)
		conn.ExpectBytes(authBytes(0x19, "m", "first"))
		conn.Auth(control.Auth{Method: "m"})
		r.must(<-done)
	})
}

// If the re-authentication fails, the Client or Server SHOULD send DISCONNECT with an appropriate
// Reason Code. The application gets a typed error.
func TestMQTT_4_12_1_2(t *testing.T) {
	for name, test := range map[string]struct {
		send   func(*fakebroker.Conn)
		reason byte // of the client's DISCONNECT; 0: none
		typed  any
	}{
		"a challenge that is refused": {func(c *fakebroker.Conn) { c.Send(authBytes(0x18, "m", "bad")) }, 0x80, new(*client.AuthError)},
		"final data that is refused":  {func(c *fakebroker.Conn) { c.Send(authBytes(0x00, "m", "bad")) }, 0x80, new(*client.AuthError)},
		"a server that is silent":     {func(c *fakebroker.Conn) {}, 0x80, new(*client.AuthError)},
		"one that asks in return":     {func(c *fakebroker.Conn) { c.Send(authBytes(0x19, "m", "")) }, 0x82, new(*client.ProtocolError)},
		"an unknown reason code":      {func(c *fakebroker.Conn) { c.Send(authBytes(0x87, "m", "")) }, 0x82, new(*client.ProtocolError)},
		"two challenges at once":      {func(c *fakebroker.Conn) { c.Send(authBytes(0x00, "m", ""), authBytes(0x18, "m", "")) }, 0x82, nil},
		"a server that says no":       {func(c *fakebroker.Conn) { c.Disconnect(control.Disconnect{Reason: 0x87}) }, 0, new(*client.ConnectionError)},
		"one that does so by 0x8C":    {func(c *fakebroker.Conn) { c.Disconnect(control.Disconnect{Reason: 0x8C}) }, 0, new(*client.ConnectionError)},
		"one that is gone":            {func(c *fakebroker.Conn) { c.Close() }, 0, new(error)},
		"one that sends nothing good": {func(c *fakebroker.Conn) { c.Send([]byte{0xF0, 1}, []byte{0x18}) }, 0x81, new(*client.ProtocolError)},
	} {
		t.Run(name, func(t *testing.T) {
			onAuthRig(t, func(t *testing.T, r *rig) {
				c, conn := r.start(authenticated)
				done := reauthenticate(c)
				conn.ExpectAuth()
				test.send(conn)
				if test.reason != 0 {
					conn.ExpectDisconnect(test.reason)
				} else {
					conn.ExpectClosed()
				}
				if err := <-done; test.typed != nil && !errors.As(err, test.typed) {
					t.Errorf("the error is %v, want a %T", err, test.typed)
				}
				again := authenticated // and the client continues
				again.SessionPresent = true
				conn, _ = r.Connect(again)
				r.publish(c, client.AtLeastOnce, "p")
				r.wantPublish(conn, "p", false)
			})
		})
	}
}

// wantStopped makes a server refuse the authentication, and checks that the client stops with this
// code.
func (r *rig) wantStopped(c *client.Client, conn *fakebroker.Conn, reason byte) {
	r.t.Helper()
	conn.Connack(control.Connack{Reason: reason})
	conn.ExpectClosed()
	<-c.Done()
	var refused *client.ConnectionError
	if !errors.As(c.Err(), &refused) || refused.Code != reason {
		r.t.Errorf("the client stopped with %v, want 0x%02X", c.Err(), reason)
	}
}

// A Server that does not support the Authentication Method MAY send a CONNACK with 0x8C or 0x87,
// and MUST close the connection. Another attempt would not help.
func TestMQTT_4_12_0_1(t *testing.T) {
	for _, reason := range []byte{0x8C, 0x87} {
		onAuthRig(t, func(t *testing.T, r *rig) {
			c := r.client()
			conn, _ := r.Open()
			r.wantStopped(c, conn, reason)
		})
	}
}

// An AUTH that the Server sends before CONNACK MUST contain Reason Code 0x18. Any other code is a
// violation.
func TestMQTT_4_12_0_2(t *testing.T) {
	for reason := range 0x100 {
		onAuthRig(t, func(t *testing.T, r *rig) {
			r.client()
			conn, _ := r.Open()
			conn.Send(authBytes(byte(reason), "m", "c"))
			if reason == 0x18 {
				conn.ExpectBytes(authBytes(0x18, "m", "to c"))
				return
			}
			if wire.CheckServerReason(wire.AUTH, byte(reason)) == nil {
				conn.ExpectDisconnect(0x82)
			} else {
				conn.ExpectClosed() // the packet is malformed, and there is no CONNACK yet
			}
			r.Connect(authenticated)
			r.wantViolations(client.ProtocolError{Code: 0x82, Packet: "AUTH"})
		})
	}
}

// The Server can reject the authentication at any point in this process.
func TestMQTT_4_12_0_4(t *testing.T) {
	for challenges := range 3 {
		onAuthRig(t, func(t *testing.T, r *rig) {
			c := r.client()
			conn, _ := r.Open()
			for range challenges {
				conn.Send(authBytes(0x18, "m", "c"))
				conn.ExpectAuth()
			}
			r.wantStopped(c, conn, 0x87)
		})
	}
}
