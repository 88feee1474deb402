package fakebroker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// judge is a test that may fail.
type judge struct {
	*testing.T
	said string
}

func (j *judge) Fatalf(format string, args ...any) {
	j.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// verdict returns the error with which f ends its test if the client behaves like play, or "".
func verdict(t *testing.T, play func(nc net.Conn), f func(b *Broker, c *Conn)) (said string) {
	synctest.Test(t, func(t *testing.T) {
		j := &judge{T: t}
		b := New(j)
		done := make(chan struct{})
		go func() {
			nc, err := b.Dial(t.Context(), nil)
			if err == nil {
				play(nc)
			}
		}()
		go func() {
			defer close(done)
			f(b, b.Accept())
		}()
		<-done
		said = j.said
	})
	return said
}

var (
	connect = control.AppendConnect(nil, &control.Connect{ClientID: "c"})
	puback  = []byte{0x40, 2, 0, 7}
)

func says(packets ...[]byte) func(net.Conn) {
	return func(nc net.Conn) {
		for _, p := range packets {
			_, _ = nc.Write(p)
		}
	}
}

func leaves(packets ...[]byte) func(net.Conn) {
	return func(nc net.Conn) {
		says(packets...)(nc)
		_ = nc.Close()
	}
}

// Each expectation is satisfied by one client and not by the other.
func TestExpect_SucceedsAndFails(t *testing.T) {
	tests := []struct {
		name      string
		expect    func(b *Broker, c *Conn)
		good, bad func(net.Conn)
		complaint string
	}{
		{"a packet", func(_ *Broker, c *Conn) { c.Next() }, says(puback), leaves(), "closed"},
		{"bytes", func(_ *Broker, c *Conn) { c.ExpectBytes(connect, puback) }, says(connect, puback), says(connect, connect), "want"},
		{"bytes, in pieces", func(_ *Broker, c *Conn) { c.ExpectBytes(puback) }, says(puback[:1], puback[1:]), says(puback[:3]), "sent nothing"},
		{"bytes, the end", func(_ *Broker, c *Conn) { c.ExpectBytes(puback) }, says(puback), leaves(), "closed"},
		{"a type", func(_ *Broker, c *Conn) { c.Expect(wire.PUBACK) }, says(puback), says(connect), "CONNECT 10"},
		{"a type, the end", func(_ *Broker, c *Conn) { c.Expect(wire.PUBACK) }, says(puback), leaves(), "closed"},
		{"reserved flags", func(_ *Broker, c *Conn) { c.Expect(wire.PUBACK) }, says(puback), says([]byte{0x42, 2, 0, 7}), "reserved flags"},
		{"a type in time", func(_ *Broker, c *Conn) { c.Expect(wire.PUBACK) }, says(puback), says(), "sent nothing for 10s"},
		{"half a packet", func(_ *Broker, c *Conn) { c.Expect(wire.PUBACK) }, says(puback), leaves(puback[:3]), "unexpected EOF"},
		{"invalid packet", func(_ *Broker, c *Conn) { c.Next() }, says(puback), says([]byte{0x40, 0xFF, 0xFF, 0xFF, 0xFF}), "invalid packet"},
		{"CONNECT", func(_ *Broker, c *Conn) { c.ExpectConnect() }, says(connect), says([]byte{0x10, 1, 0}), "runs past"},
		{"PUBLISH", func(_ *Broker, c *Conn) { c.ExpectPublish() }, says([]byte{0x30, 4, 0, 1, 't', 0}), says([]byte{0x36, 4, 0, 1, 't', 0}), "QoS bits"},
		{"PUBACK", func(_ *Broker, c *Conn) { c.ExpectAck(wire.PUBACK) }, says(puback), says([]byte{0x40, 2, 0, 0}), "is 0"},
		{"SUBSCRIBE", func(_ *Broker, c *Conn) { c.ExpectSubscribe() }, says([]byte{0x82, 7, 0, 1, 0, 0, 1, 't', 0}), says([]byte{0x82, 3, 0, 1, 0}), "no Topic Filter"},
		{"UNSUBSCRIBE", func(_ *Broker, c *Conn) { c.ExpectUnsubscribe() }, says([]byte{0xA2, 6, 0, 1, 0, 0, 1, 't'}), says([]byte{0xA2, 3, 0, 1, 0}), "no Topic Filter"},
		{"PINGREQ", func(_ *Broker, c *Conn) { c.ExpectPingreq() }, says([]byte{0xC0, 0}), says([]byte{0xC0, 1, 0}), "after its last"},
		{"AUTH", func(_ *Broker, c *Conn) { c.ExpectAuth() }, says([]byte{0xF0, 0}), says([]byte{0xF0, 1, 0x18}), "Property Length"},
		{"DISCONNECT", func(_ *Broker, c *Conn) { c.ExpectDisconnect(0x82) }, leaves([]byte{0xE0, 1, 0x82}), leaves([]byte{0xE0, 0}), "0x00, want 0x82"},
		{"DISCONNECT and no more", func(_ *Broker, c *Conn) { c.ExpectDisconnect(0) }, leaves([]byte{0xE0, 0}), leaves([]byte{0xE0, 0}, puback), "PUBACK"},
		{"the end", func(_ *Broker, c *Conn) { c.ExpectClosed() }, leaves(), says(), "sent nothing"},
		{"the end and no more", func(_ *Broker, c *Conn) { c.ExpectClosed() }, leaves(), leaves(puback), "PUBACK"},
		{"the rest", func(_ *Broker, c *Conn) { c.Rest() }, leaves(puback, connect), says(puback), "sent nothing"},
		{"quiet", func(_ *Broker, c *Conn) { c.Quiet() }, says(), says(puback), "PUBACK"},
		{"quiet and open", func(_ *Broker, c *Conn) { c.Quiet() }, says(), leaves(), "should stay open"},
		{"quiet and no garbage", func(_ *Broker, c *Conn) { c.Quiet() }, says(), says([]byte{0x40, 0xFF, 0xFF, 0xFF, 0xFF}), "invalid packet"},
		{"quiet for a time", func(_ *Broker, c *Conn) { c.QuietFor(time.Minute) }, says(), func(nc net.Conn) {
			time.Sleep(59 * time.Second)
			_, _ = nc.Write(puback)
		}, "PUBACK"},
		{"a client that reads", func(_ *Broker, c *Conn) { c.Send(puback) }, func(nc net.Conn) { segments(nc, 4) }, says(), "takes nothing"},
		{"a connection", func(b *Broker, c *Conn) { b.Open() }, nil, says(), "does not connect"},
		{"no connection", func(b *Broker, _ *Conn) { b.Quiet(time.Minute) }, says(), nil, "connected 1 times"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.good != nil {
				if said := verdict(t, test.good, test.expect); said != "" {
					t.Errorf("a good client fails: %s", said)
				}
			}
			if test.bad != nil {
				if said := verdict(t, test.bad, test.expect); !strings.Contains(said, test.complaint) || said == "" {
					t.Errorf("a bad client: %q, want it to say %q", said, test.complaint)
				}
			}
		})
	}
}

func TestBroker_SecondConnection(t *testing.T) {
	again := func(b *Broker, c *Conn) {
		nc, err := b.Dial(t.Context(), nil)
		if err == nil {
			go says(connect)(nc)
			go segments(nc, 5)
		}
		b.Connect(control.Connack{})
	}
	if said := verdict(t, says(), again); said != "" {
		t.Error(said)
	}
	if said := verdict(t, says(), func(b *Broker, c *Conn) {
		_, _ = b.Dial(t.Context(), nil)
		b.Quiet(0)
	}); !strings.Contains(said, "connected 1 times") {
		t.Errorf("a client that connects again: %q", said)
	}
}

// segments returns the received data, one element per read.
func segments(nc net.Conn, n int) (list []string) {
	for size := 0; size < n; {
		b := make([]byte, 1024)
		k, err := nc.Read(b)
		if err != nil {
			return list
		}
		list = append(list, string(b[:k]))
		size += k
	}
	return list
}

func TestTake_ReturnsReceivedPackets(t *testing.T) {
	if said := verdict(t, says(connect, puback), func(_ *Broker, c *Conn) {
		if got := c.Take(); len(got) != 2 || got[0].Type() != wire.CONNECT || !bytes.Equal(got[1].Raw, puback) {
			t.Errorf("got %v", got)
		}
		if got := c.Take(); len(got) != 0 {
			t.Errorf("got %v again", got)
		}
	}); said != "" {
		t.Error(said)
	}
}

func TestSend_KeepsSegments(t *testing.T) {
	b := New(t)
	nc, err := b.Dial(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := b.Accept()
	go func() {
		c.Send([]byte("one"), []byte("two"))
		c.Trickle([]byte("ab"), []byte("c"))
	}()
	if got := fmt.Sprint(segments(nc, 9)); got != "[onetwo a b c]" {
		t.Errorf("got %s", got)
	}
	_ = nc.Close()
	c.Send(puback) // no failure
	c.ExpectClosed()
}

func TestAnswers(t *testing.T) {
	b := New(t)
	nc, _ := b.Dial(t.Context(), nil)
	c := b.Accept()
	go func() {
		c.Connack(control.Connack{SessionPresent: true, ReceiveMaximum: 9})
		c.Publish(wire.Publish{Dup: true, QoS: 1, PacketID: 5, Topic: "t", HasExpiry: true, MessageExpiry: 3, Payload: []byte("p")})
		c.Ack(wire.PUBREL, 6, 0x92)
		c.Suback(7, 0, 0x87)
		c.Unsuback(8, 0x11)
		c.Pingresp()
		c.Auth(control.Auth{Reason: 0x18, Method: "m"})
		c.Disconnect(control.Disconnect{Reason: 0x8E})
		c.Close()
	}()
	got, _ := io.ReadAll(nc)
	want := "" +
		"\x20\x06\x01\x00\x03\x21\x00\x09" +
		"\x3a\x0c\x00\x01t\x00\x05\x05\x02\x00\x00\x00\x03p" +
		"\x62\x03\x00\x06\x92" +
		"\x90\x05\x00\x07\x00\x00\x87" +
		"\xb0\x04\x00\x08\x00\x11" +
		"\xd0\x00" +
		"\xf0\x06\x18\x04\x15\x00\x01m" +
		"\xe0\x01\x8e"
	if string(got) != want {
		t.Errorf("got  % x\nwant % x", got, want)
	}
}

func TestGarbage_DependsOnlyOnTheSeed(t *testing.T) {
	a, b := Garbage(1, 100), Garbage(1, 100)
	if !bytes.Equal(a, b) || bytes.Equal(a, Garbage(2, 100)) || len(a) != 100 {
		t.Error("garbage depends on more or less than its seed")
	}
}

func TestBroker_OverTCP(t *testing.T) {
	b := NewTCP(t)
	nc, err := b.Dial(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	go says(connect, puback)(nc)
	c, got := b.Connect(control.Connack{})
	if got.ClientID != "c" {
		t.Errorf("CONNECT is %+v", got)
	}
	c.ExpectBytes(puback)
	if got := segments(nc, 5); strings.Join(got, "") != "\x20\x03\x00\x00\x00" {
		t.Errorf("the client got %q", got)
	}
	_ = nc.Close()
	c.ExpectClosed()
	if string(c.Heard()) != string(connect)+string(puback) {
		t.Errorf("heard % x", c.Heard())
	}
}

func TestDial_FailsAfterTheTest(t *testing.T) {
	var b *Broker
	t.Run("over", func(t *testing.T) { b = New(t) })
	if _, err := b.Dial(context.Background(), nil); err == nil {
		t.Error("a connection was made")
	}
}
