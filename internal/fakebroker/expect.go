package fakebroker

import (
	"bytes"
	"fmt"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// next is the client's next packet; ok is false when it has closed the
// connection. What is no packet at all ends the test.
func (c *Conn) next(want string) (f wire.Frame, ok bool) {
	c.t.Helper()
	timer := time.NewTimer(c.b.Patience)
	defer timer.Stop()
	select {
	case got, ok := <-c.frames:
		if got.err != nil {
			c.t.Fatalf("%s was expected, and the client sent what is no packet: %v", want, got.err)
		}
		return got.Frame, ok
	case <-timer.C:
		c.t.Fatalf("%s was expected, and the client does nothing for %v", want, c.b.Patience)
	}
	panic("unreachable: Fatalf returned")
}

// Packet returns the client's next packet; ok is false when there is none: the client has closed
// the connection, or the test is over. It waits without a limit and fails nothing, so that a server
// may run on a goroutine of its own.
func (c *Conn) Packet() (f wire.Frame, ok bool) {
	select {
	case got, ok := <-c.frames:
		return got.Frame, ok && got.err == nil
	case <-c.b.gone:
		return f, false
	}
}

// Next is the client's next packet, of any type.
func (c *Conn) Next() wire.Frame {
	c.t.Helper()
	f, ok := c.next("a packet")
	if !ok {
		c.t.Fatalf("a packet was expected, and the client closed the connection")
	}
	return f
}

// Expect is the client's next packet, which must be of this type and have the
// flags that its type has.
func (c *Conn) Expect(want wire.Type) wire.Frame {
	c.t.Helper()
	f, ok := c.next(want.String())
	switch {
	case !ok:
		c.t.Fatalf("%v was expected, and the client closed the connection", want)
	case f.Type() != want:
		c.t.Fatalf("%v was expected, and %s came", want, show(f))
	}
	if err := wire.CheckHeader(f.Header); err != nil {
		c.t.Fatalf("%s: %v", show(f), err)
	}
	return f
}

// ExpectBytes wants the client's next packets to be exactly these.
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

// show is a packet for a message, cut short.
func show(f wire.Frame) string {
	const most = 64
	if len(f.Raw) > most {
		return fmt.Sprintf("%v % x…", f.Type(), f.Raw[:most])
	}
	return fmt.Sprintf("%v % x", f.Type(), f.Raw)
}

// parse decodes the next packet, which must be of this type and well-formed.
func parse[P any](c *Conn, want wire.Type, decode func(wire.Frame) (P, error)) P {
	c.t.Helper()
	f := c.Expect(want)
	p, err := decode(f)
	if err != nil {
		c.t.Fatalf("%s: %v", show(f), err)
	}
	return p
}

// ExpectConnect wants a CONNECT.
func (c *Conn) ExpectConnect() control.Connect {
	c.t.Helper()
	return parse(c, wire.CONNECT, control.ParseConnect)
}

// ExpectPublish wants a PUBLISH.
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

// ExpectAck wants a PUBACK, PUBREC, PUBREL or PUBCOMP.
func (c *Conn) ExpectAck(want wire.Type) wire.Ack {
	c.t.Helper()
	return parse(c, want, wire.ParseAck)
}

// ExpectSubscribe wants a SUBSCRIBE.
func (c *Conn) ExpectSubscribe() control.Subscribe {
	c.t.Helper()
	return parse(c, wire.SUBSCRIBE, control.ParseSubscribe)
}

// ExpectUnsubscribe wants an UNSUBSCRIBE.
func (c *Conn) ExpectUnsubscribe() control.Unsubscribe {
	c.t.Helper()
	return parse(c, wire.UNSUBSCRIBE, control.ParseUnsubscribe)
}

// ExpectPingreq wants a PINGREQ.
func (c *Conn) ExpectPingreq() {
	c.t.Helper()
	parse(c, wire.PINGREQ, func(f wire.Frame) (struct{}, error) { return struct{}{}, control.ParsePing(f) })
}

// ExpectAuth wants an AUTH.
func (c *Conn) ExpectAuth() control.Auth {
	c.t.Helper()
	return parse(c, wire.AUTH, control.ParseAuth)
}

// ExpectDisconnect wants a DISCONNECT with this reason code, and then the end of
// the connection.
func (c *Conn) ExpectDisconnect(reason byte) control.Disconnect {
	c.t.Helper()
	d := parse(c, wire.DISCONNECT, control.ParseDisconnect)
	if d.Reason != reason {
		c.t.Fatalf("the client's DISCONNECT has reason code 0x%02X, want 0x%02X", d.Reason, reason)
	}
	c.ExpectClosed()
	return d
}

// ExpectClosed wants the client to close the connection without another packet.
func (c *Conn) ExpectClosed() {
	c.t.Helper()
	if f, ok := c.next("the end of the connection"); ok {
		c.t.Fatalf("the end of the connection was expected, and %s came", show(f))
	}
}

// Rest is everything that the client still sends until it closes the
// connection.
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

// Take is everything that the client has sent by now and that was not expected
// yet. It needs a bubble of testing/synctest.
func (c *Conn) Take() (list []wire.Frame) {
	c.t.Helper()
	synctest.Wait()
	for len(c.frames) > 0 {
		list = append(list, c.Next())
	}
	return list
}

// Quiet wants that the client has nothing to send for the time being, and leaves
// the connection as it is. It needs a bubble of testing/synctest.
func (c *Conn) Quiet() {
	c.t.Helper()
	c.QuietFor(0)
}

// QuietFor wants that the client sends nothing for as long as d, and leaves the
// connection as it is. It needs a bubble of testing/synctest; d is fake time.
func (c *Conn) QuietFor(d time.Duration) {
	c.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	select {
	case f, ok := <-c.frames:
		switch {
		case !ok:
			c.t.Fatalf("the client closed the connection, which should stand")
		case f.err != nil:
			c.t.Fatalf("nothing was expected, and the client sent what is no packet: %v", f.err)
		default:
			c.t.Fatalf("nothing was expected, and %s came", show(f.Frame))
		}
	default:
	}
}
