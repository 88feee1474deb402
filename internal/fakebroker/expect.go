package fakebroker

import (
	"bytes"
	"fmt"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// next returns the client's next packet. ok is false if the client has closed the connection. An
// invalid packet ends the test.
func (c *Conn) next(want string) (f wire.Frame, ok bool) {
	c.t.Helper()
	timer := time.NewTimer(c.b.Timeout)
	defer timer.Stop()
	select {
	case got, ok := <-c.frames:
		if got.err != nil {
			c.t.Fatalf("%s was expected, and the client sent an invalid packet: %v", want, got.err)
		}
		return got.Frame, ok
	case <-timer.C:
		c.t.Fatalf("%s was expected, and the client sent nothing for %v", want, c.b.Timeout)
	}
	panic("unreachable: Fatalf returned")
}

// Packet returns the client's next packet. ok is false if the client has closed the connection or
// the test has ended. Packet waits without a limit and never fails the test, so that a server can
// run on its own goroutine.
func (c *Conn) Packet() (f wire.Frame, ok bool) {
	select {
	case got, ok := <-c.frames:
		return got.Frame, ok && got.err == nil
	case <-c.b.gone:
		return f, false
	}
}

// Next returns the client's next packet, of any type.
func (c *Conn) Next() wire.Frame {
	c.t.Helper()
	f, ok := c.next("a packet")
	if !ok {
		c.t.Fatalf("a packet was expected, and the client closed the connection")
	}
	return f
}

// Expect returns the client's next packet, which must have this type and the flags of this type.
func (c *Conn) Expect(want wire.Type) wire.Frame {
	c.t.Helper()
	f, ok := c.next(want.String())
	switch {
	case !ok:
		c.t.Fatalf("%v was expected, and the client closed the connection", want)
	case f.Type() != want:
		c.t.Fatalf("%v was expected, and %s arrived", want, show(f))
	}
	if err := wire.CheckHeader(f.Header); err != nil {
		c.t.Fatalf("%s: %v", show(f), err)
	}
	return f
}

// ExpectBytes checks that the client's next packets are exactly these.
func (c *Conn) ExpectBytes(packets ...[]byte) {
	c.t.Helper()
	for _, want := range packets {
		f, ok := c.next(fmt.Sprintf("% x", want))
		switch {
		case !ok:
			c.t.Fatalf("% x was expected, and the client closed the connection", want)
		case !bytes.Equal(f.Raw, want):
			c.t.Fatalf("the client sent\n% x, want\n% x", f.Raw, want)
		}
	}
}

// show returns a packet for a message, truncated.
func show(f wire.Frame) string {
	const most = 64
	if len(f.Raw) > most {
		return fmt.Sprintf("%v % x…", f.Type(), f.Raw[:most])
	}
	return fmt.Sprintf("%v % x", f.Type(), f.Raw)
}

// parse decodes the next packet, which must have this type and be well-formed.
func parse[P any](c *Conn, want wire.Type, decode func(wire.Frame) (P, error)) P {
	c.t.Helper()
	f := c.Expect(want)
	p, err := decode(f)
	if err != nil {
		c.t.Fatalf("%s: %v", show(f), err)
	}
	return p
}

// ExpectConnect expects and returns a CONNECT.
func (c *Conn) ExpectConnect() control.Connect {
	c.t.Helper()
	return parse(c, wire.CONNECT, control.ParseConnect)
}

// ExpectPublish expects and returns a PUBLISH.
func (c *Conn) ExpectPublish() wire.Publish {
	c.t.Helper()
	return parse(c, wire.PUBLISH, func(f wire.Frame) (wire.Publish, error) {
		v, err := wire.ParsePublish(f)
		if err != nil {
			return wire.Publish{}, err
		}
		return v.Decode(string(v.Topic)), nil
	})
}

// ExpectAck expects and returns a PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *Conn) ExpectAck(want wire.Type) wire.Ack {
	c.t.Helper()
	return parse(c, want, wire.ParseAck)
}

// ExpectSubscribe expects and returns a SUBSCRIBE.
func (c *Conn) ExpectSubscribe() control.Subscribe {
	c.t.Helper()
	return parse(c, wire.SUBSCRIBE, control.ParseSubscribe)
}

// ExpectUnsubscribe expects and returns an UNSUBSCRIBE.
func (c *Conn) ExpectUnsubscribe() control.Unsubscribe {
	c.t.Helper()
	return parse(c, wire.UNSUBSCRIBE, control.ParseUnsubscribe)
}

// ExpectPingreq expects a PINGREQ.
func (c *Conn) ExpectPingreq() {
	c.t.Helper()
	parse(c, wire.PINGREQ, func(f wire.Frame) (struct{}, error) { return struct{}{}, control.ParsePing(f) })
}

// ExpectAuth expects and returns an AUTH.
func (c *Conn) ExpectAuth() control.Auth {
	c.t.Helper()
	return parse(c, wire.AUTH, control.ParseAuth)
}

// ExpectDisconnect expects a DISCONNECT with this reason code, followed by the end of the
// connection.
func (c *Conn) ExpectDisconnect(reason byte) control.Disconnect {
	c.t.Helper()
	d := parse(c, wire.DISCONNECT, control.ParseDisconnect)
	if d.Reason != reason {
		c.t.Fatalf("the client's DISCONNECT has reason code 0x%02X, want 0x%02X", d.Reason, reason)
	}
	c.ExpectClosed()
	return d
}

// ExpectClosed expects that the client closes the connection without another packet.
func (c *Conn) ExpectClosed() {
	c.t.Helper()
	if f, ok := c.next("the end of the connection"); ok {
		c.t.Fatalf("the end of the connection was expected, and %s arrived", show(f))
	}
}

// Rest returns all packets that the client sends until it closes the connection.
func (c *Conn) Rest() (list []wire.Frame) {
	c.t.Helper()
	for {
		f, ok := c.next("the end of the connection")
		if !ok {
			return list
		}
		list = append(list, f)
	}
}

// Take returns all packets that the client has sent so far and that were not expected yet. It needs
// a bubble of testing/synctest.
func (c *Conn) Take() (list []wire.Frame) {
	c.t.Helper()
	synctest.Wait()
	for len(c.frames) > 0 {
		list = append(list, c.Next())
	}
	return list
}

// Quiet checks that the client has nothing to send at present. The connection stays unchanged. It
// needs a bubble of testing/synctest.
func (c *Conn) Quiet() {
	c.t.Helper()
	c.QuietFor(0)
}

// QuietFor checks that the client sends nothing for the time d. The connection stays unchanged. It
// needs a bubble of testing/synctest, and d is fake time.
func (c *Conn) QuietFor(d time.Duration) {
	c.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	select {
	case f, ok := <-c.frames:
		switch {
		case !ok:
			c.t.Fatalf("the client closed the connection, which should stay open")
		case f.err != nil:
			c.t.Fatalf("nothing was expected, and the client sent an invalid packet: %v", f.err)
		default:
			c.t.Fatalf("nothing was expected, and %s arrived", show(f.Frame))
		}
	default:
	}
}
