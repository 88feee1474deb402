package mqtttest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// inBubble runs a test against a broker without sockets, in a bubble where
// time passes as soon as everyone waits.
func inBubble(t *testing.T, o Options, test func(t *testing.T, b *Broker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.NoTCP = true
		test(t, Start(t, With(o)))
	})
}

// rawClient is a client that says exactly what the test makes it say.
type rawClient struct {
	t    testing.TB
	nc   net.Conn
	got  chan wire.Frame // closed when the connection ends
	ack  control.Connack
	held []wire.Frame // came while PUBREL was awaited
}

// open connects to the broker without saying anything.
func open(t testing.TB, nc net.Conn) *rawClient {
	c := &rawClient{t: t, nc: nc, got: make(chan wire.Frame, 4096)}
	t.Cleanup(func() { _ = nc.Close() })
	go func() {
		defer close(c.got)
		for r := wire.NewReader(nc, 0); ; {
			f, err := r.Next()
			if err != nil {
				return
			}
			raw := append([]byte(nil), f.Raw...)
			c.got <- wire.Frame{Header: f.Header, Raw: raw, Body: raw[len(raw)-len(f.Body):]}
		}
	}()
	return c
}

// join connects and wants success.
func join(t testing.TB, b *Broker, p control.Connect) *rawClient {
	t.Helper()
	c := open(t, b.Dial())
	c.connect(p)
	if c.ack.Reason != 0 {
		t.Fatalf("CONNECT of %q was refused: 0x%02X %s", p.ClientID, c.ack.Reason, c.ack.ReasonString)
	}
	return c
}

// fresh joins with Clean Start and a session that lasts.
func fresh(t testing.TB, b *Broker, clientID string) *rawClient {
	t.Helper()
	return join(t, b, control.Connect{ClientID: clientID, CleanStart: true, SessionExpiry: 3600})
}

// back joins without Clean Start.
func back(t testing.TB, b *Broker, clientID string) *rawClient {
	t.Helper()
	return join(t, b, control.Connect{ClientID: clientID, SessionExpiry: 3600})
}

func (c *rawClient) send(b []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(b); err != nil {
		c.t.Fatalf("the broker takes nothing: %v", err)
	}
}

func (c *rawClient) connect(p control.Connect) {
	c.t.Helper()
	c.send(control.AppendConnect(nil, &p))
	var err error
	if c.ack, err = control.ParseConnack(c.next(wire.CONNACK)); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next packet, which must be of type want; 0 is any.
func (c *rawClient) next(want wire.Type) wire.Frame {
	c.t.Helper()
	if len(c.held) > 0 {
		f := c.held[0]
		c.held = c.held[1:]
		return f
	}
	select {
	case f, ok := <-c.got:
		if !ok {
			c.t.Fatalf("the connection ended; a %v was expected", want)
		}
		if want != 0 && f.Type() != want {
			c.t.Fatalf("got %v % x, want %v", f.Type(), f.Raw, want)
		}
		return f
	case <-time.After(24 * time.Hour): // the bubble's
		c.t.Fatalf("nothing came; a %v was expected", want)
	}
	panic("unreachable")
}

// quiet wants that nothing more comes without something new happening.
func (c *rawClient) quiet() {
	c.t.Helper()
	if len(c.held) > 0 {
		c.t.Fatalf("got % x, want nothing", c.held[0].Raw)
	}
	synctest.Wait()
	select {
	case f, ok := <-c.got:
		if !ok {
			c.t.Fatal("the connection ended")
		}
		c.t.Fatalf("got %v % x, want nothing", f.Type(), f.Raw)
	default:
	}
}

// over wants that the broker says DISCONNECT with a reason, or nothing if that
// is 0, and closes.
func (c *rawClient) over(reason byte) {
	c.t.Helper()
	if reason != 0 {
		d, err := control.ParseDisconnect(c.next(wire.DISCONNECT))
		if err != nil || d.Reason != reason {
			c.t.Fatalf("DISCONNECT has reason 0x%02X (%s), want 0x%02X (%v)", d.Reason, d.ReasonString, reason, err)
		}
	}
	if f, ok := <-c.got; ok {
		c.t.Fatalf("got %v % x, want the end of the connection", f.Type(), f.Raw)
	}
}

// message is the next packet, a PUBLISH. It is not acknowledged.
func (c *rawClient) message() wire.Publish {
	c.t.Helper()
	v, err := wire.ParsePublish(c.next(wire.PUBLISH))
	if err != nil {
		c.t.Fatal(err)
	}
	return v.Decode(string(v.Topic))
}

// receive is the next message, acknowledged to the end.
func (c *rawClient) receive() wire.Publish {
	c.t.Helper()
	p := c.message()
	switch p.QoS {
	case 1:
		c.say(wire.PUBACK, p.PacketID, 0)
	case 2:
		c.say(wire.PUBREC, p.PacketID, 0)
		c.released(p.PacketID)
		c.say(wire.PUBCOMP, p.PacketID, 0)
	}
	return p
}

// released takes a PUBREL that may come behind further messages.
func (c *rawClient) released(id uint16) {
	c.t.Helper()
	held := c.held
	c.held = nil
	for {
		f := c.next(0)
		if f.Type() == wire.PUBLISH {
			held = append(held, f)
			continue
		}
		if a, err := wire.ParseAck(f); err != nil || a.Type != wire.PUBREL || a.PacketID != id || a.Reason != 0 {
			c.t.Fatalf("got % x, want PUBREL of %d (%v)", f.Raw, id, err)
		}
		c.held = held
		return
	}
}

// wantMessages checks that the payloads arrive in this order, and nothing after them.
func (c *rawClient) wantMessages(payloads ...string) {
	c.t.Helper()
	for i, want := range payloads {
		if got := c.receive(); string(got.Payload) != want {
			c.t.Fatalf("message %d is %q, want %q", i, got.Payload, want)
		}
	}
	c.quiet()
}

func (c *rawClient) say(t wire.Type, id uint16, reason byte) {
	c.t.Helper()
	c.send(wire.AppendAck(nil, wire.Ack{Type: t, PacketID: id, Reason: reason}))
}

// expect wants an acknowledgement.
func (c *rawClient) expect(t wire.Type, id uint16, reason byte) {
	c.t.Helper()
	a, err := wire.ParseAck(c.next(t))
	if err != nil || a.PacketID != id || a.Reason != reason {
		c.t.Fatalf("got %v of %d with 0x%02X, want %d with 0x%02X (%v)", t, a.PacketID, a.Reason, id, reason, err)
	}
}

// put sends a PUBLISH and waits for nothing.
func (c *rawClient) put(p wire.Publish) {
	c.t.Helper()
	c.send(wire.AppendPublish(nil, &p))
}

// publish publishes a message to the end.
func (c *rawClient) publish(topic, payload string, qos byte) {
	c.t.Helper()
	p := wire.Publish{Topic: topic, Payload: []byte(payload), QoS: qos}
	if qos > 0 {
		p.PacketID = 1
	}
	c.put(p)
	c.finished(qos, 1)
}

// finished takes the acknowledgements of a message that was put.
func (c *rawClient) finished(qos byte, id uint16) {
	c.t.Helper()
	ack := func(t wire.Type) {
		a, err := wire.ParseAck(c.next(t))
		if err != nil || a.PacketID != id || a.Reason >= 0x80 {
			c.t.Fatalf("got %+v (%v)", a, err)
		}
	}
	switch qos {
	case 1:
		ack(wire.PUBACK)
	case 2:
		ack(wire.PUBREC)
		c.say(wire.PUBREL, id, 0)
		ack(wire.PUBCOMP)
	}
}

// subscribe wants each filter granted at qos.
func (c *rawClient) subscribe(qos byte, filters ...string) {
	c.t.Helper()
	s := control.Subscribe{PacketID: 9}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, control.Subscription{Filter: f, QoS: qos})
	}
	for i, reason := range c.subscribeWith(s) {
		if reason != qos {
			c.t.Fatalf("%s was answered with 0x%02X", filters[i], reason)
		}
	}
}

func (c *rawClient) subscribeWith(s control.Subscribe) []byte {
	c.t.Helper()
	if s.PacketID == 0 {
		s.PacketID = 9
	}
	c.send(control.AppendSubscribe(nil, &s))
	ack, err := control.ParseSuback(c.next(wire.SUBACK))
	if err != nil || ack.PacketID != s.PacketID || len(ack.Reasons) != len(s.Subscriptions) {
		c.t.Fatalf("%+v was answered with %+v (%v)", s, ack, err)
	}
	return ack.Reasons
}

// cut breaks the connection without a word.
func (c *rawClient) cut() {
	_ = c.nc.Close()
	for range c.got { // until the reader is gone
	}
	synctest.Wait()
}

// leave says DISCONNECT and waits for the end.
func (c *rawClient) leave(d control.Disconnect) {
	c.t.Helper()
	c.send(control.AppendDisconnect(nil, &d))
	c.over(0)
	synctest.Wait()
}

func seq(from, to int) (s []string) {
	for i := from; i <= to; i++ {
		s = append(s, fmt.Sprint(i))
	}
	return s
}

// ended reads what is left of a connection and reports whether it ended.
func ended(nc net.Conn) bool {
	_, err := io.Copy(io.Discard, nc)
	return err == nil || errors.Is(err, io.ErrClosedPipe)
}
