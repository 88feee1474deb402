package mqtttest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// exchanges make the broker send one packet of each type to a connected client, and return after it.
var exchanges = map[PacketType]func(b *Broker, c *rawClient){
	PUBLISH: func(b *Broker, c *rawClient) {
		if n, err := b.Publish(Message{Topic: "own", Payload: []byte("x"), QoS: 1}); n != 1 || err != nil {
			c.t.Errorf("Publish returned %d, %v", n, err)
		}
	},
	PUBACK:  func(_ *Broker, c *rawClient) { c.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 7}) },
	PUBREC:  func(_ *Broker, c *rawClient) { c.put(wire.Publish{Topic: "t", QoS: 2, PacketID: 7}) },
	PUBREL:  func(_ *Broker, c *rawClient) { c.say(wire.PUBREC, 7, 0) },
	PUBCOMP: func(_ *Broker, c *rawClient) { c.say(wire.PUBREL, 7, 0) },
	SUBACK: func(_ *Broker, c *rawClient) {
		c.send(control.AppendSubscribe(nil, &control.Subscribe{PacketID: 7, Subscriptions: []control.Subscription{{Filter: "a", QoS: 1}, {Filter: "b"}}}))
	},
	UNSUBACK: func(_ *Broker, c *rawClient) {
		c.send(control.AppendUnsubscribe(nil, &control.Unsubscribe{PacketID: 7, Filters: []string{"x"}}))
	},
	PINGRESP:   func(_ *Broker, c *rawClient) { c.send(control.AppendPingreq(nil)) },
	DISCONNECT: func(b *Broker, _ *rawClient) { b.Disconnect("c", 0x98) },
}

// inExchange runs a test with a connected client that is subscribed to "own".
func inExchange(t *testing.T, test func(t *testing.T, b *Broker, c *rawClient)) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		c.subscribe(1, "own")
		test(t, b, c)
	})
}

// alive checks that the connection goes on, if the exchange has not ended it.
func alive(b *Broker, c *rawClient, typ PacketType) {
	c.t.Helper()
	if typ == DISCONNECT {
		c.over(0)
		return
	}
	c.send(control.AppendPingreq(nil))
	c.next(wire.PINGRESP)
	if !b.Connected("c") {
		c.t.Error("the client is not connected any more")
	}
	c.quiet()
}

func TestNext_ChangesOnePacketOfEachType(t *testing.T) {
	for typ, exchange := range exchanges {
		t.Run(typ.String(), func(t *testing.T) {
			for name, how := range map[string]struct {
				arm  func(Reply) *Fault
				want func(original []byte) [][]byte
			}{
				"swallow":   {Reply.Swallow, func([]byte) [][]byte { return nil }},
				"duplicate": {Reply.Duplicate, func(p []byte) [][]byte { return [][]byte{p, p} }},
				"delay":     {func(r Reply) *Fault { return r.Delay(time.Minute) }, func(p []byte) [][]byte { return [][]byte{p} }},
				"replace": {func(r Reply) *Fault { return r.Replace([]byte{0x40, 2, 0, 9, 0xD0, 0}) },
					func([]byte) [][]byte { return [][]byte{{0x40, 2, 0, 9}, {0xD0, 0}} }},
				"edit nothing": {func(r Reply) *Fault { return r.Edit(func(*Packet) {}) }, func(p []byte) [][]byte { return [][]byte{p} }},
			} {
				t.Run(name, func(t *testing.T) {
					var original []byte
					inExchange(t, func(t *testing.T, b *Broker, c *rawClient) {
						exchange(b, c)
						original = c.next(wire.Type(typ)).Raw
					})
					inExchange(t, func(t *testing.T, b *Broker, c *rawClient) {
						// Faults for other clients and types are not for this packet.
						others := []*Fault{b.Next("other", typ).Swallow(), b.Next("c", CONNACK).Swallow()}
						fault := how.arm(b.Next("c", typ))
						start := time.Now()
						exchange(b, c)
						if err := fault.Wait(t.Context()); err != nil {
							t.Error(err)
						}
						for i, want := range how.want(original) {
							if got := c.next(0).Raw; !bytes.Equal(got, want) {
								t.Errorf("packet %d is % x, want % x", i, got, want)
							}
						}
						if took, want := time.Since(start), time.Minute; name == "delay" && took != want || name != "delay" && took != 0 {
							t.Errorf("it took %v", took)
						}
						alive(b, c, typ)
						for _, f := range others {
							select {
							case <-f.done:
								t.Error("another packet's fault has happened")
							default:
							}
						}
					})
				})
			}
		})
	}
}

func TestNext_RefuseSendsReason(t *testing.T) {
	for typ, exchange := range exchanges {
		t.Run(typ.String(), func(t *testing.T) {
			inExchange(t, func(t *testing.T, b *Broker, c *rawClient) {
				b.Next("", typ).Refuse(0x87, "not today")
				exchange(b, c)
				p := parsePacket(c.next(wire.Type(typ)).Raw)
				want := map[PacketType][]byte{PUBLISH: nil, PINGRESP: nil, SUBACK: {0x87, 0x87}}
				reasons, other := want[typ]
				if !other {
					reasons = []byte{0x87}
				}
				text := "not today"
				if reasons == nil {
					text = ""
				}
				if !bytes.Equal(p.Reasons, reasons) || p.ReasonString != text {
					t.Errorf("got %+v", p)
				}
				alive(b, c, typ)
			})
		})
	}
}

func TestNext_EditsConnack(t *testing.T) {
	inBubble(t, Options{MaximumPacketSize: 1000}, func(t *testing.T, b *Broker) {
		b.Next("c", CONNACK).Edit(func(p *Packet) {
			p.SessionPresent, p.Reasons = false, []byte{0x9C}
			p.ReasonString, p.User = "move", []UserProperty{{"k", "v"}, {"k", "w"}}
			p.Properties = append(p.Properties, wire.PropServerReference, 0, 2, 'h', '2')
		})
		c := open(t, b.Dial())
		c.connect(control.Connect{ClientID: "c"})
		want := control.Connack{Reason: 0x9C, MaximumPacketSize: 1000, TopicAliasMaximum: 1024, ReasonString: "move", ServerReference: "h2",
			User: []wire.UserProperty{{Key: "k", Value: "v"}, {Key: "k", Value: "w"}}}
		if !reflect.DeepEqual(c.ack, want) {
			t.Errorf("got  %+v\nwant %+v", c.ack, want)
		}
		if !b.Connected("c") {
			t.Error("the broker does not act as if it had accepted the client")
		}
	})
}

func TestNext_ChangesRefusingConnack(t *testing.T) {
	o := Options{Authenticate: func(context.Context, string, string, []byte) byte { return 0x86 }}
	inBubble(t, o, func(t *testing.T, b *Broker) {
		b.Next("c", CONNACK).Refuse(0x88, "")
		c := open(t, b.Dial())
		c.connect(control.Connect{ClientID: "c"})
		if c.ack.Reason != 0x88 || c.ack.ReasonString != "authentication failed" && c.ack.ReasonString != "" {
			t.Errorf("got %+v", c.ack)
		}
	})
}

func TestNext_EditsPublish(t *testing.T) {
	inExchange(t, func(t *testing.T, b *Broker, c *rawClient) {
		b.Next("c", PUBLISH).Edit(func(p *Packet) {
			p.Topic, p.Payload, p.PacketID, p.Flags = "other", []byte("changed"), 99, p.Flags|1
			p.Properties = append(p.Properties, wire.PropSubscriptionID, 5)
		})
		if _, err := b.Publish(Message{Topic: "own", Payload: []byte("x"), QoS: 1, ContentType: "text"}); err != nil {
			t.Fatal(err)
		}
		want := wire.Publish{Topic: "other", Payload: []byte("changed"), QoS: 1, Retain: true, PacketID: 99, ContentType: "text", SubscriptionIDs: []uint32{5}}
		if got := c.message(); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestNext_DelayedPacketIsOvertaken(t *testing.T) {
	inExchange(t, func(t *testing.T, b *Broker, c *rawClient) {
		b.Next("c", PUBACK).Delay(10 * time.Second)
		for id := range uint16(3) {
			c.put(wire.Publish{Topic: "t", QoS: 1, PacketID: id + 1})
		}
		start := time.Now()
		for _, id := range []uint16{2, 3, 1} {
			c.expect(wire.PUBACK, id, wire.ReasonNoMatchingSubscribers)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it came after %v", took)
		}
		c.quiet()
		b.Next("c", PINGRESP).Delay(10 * time.Second) // lost with the connection
		c.send(control.AppendPingreq(nil))
		synctest.Wait()
		b.Disconnect("c", 0x98)
		c.over(0x98)
	})
}

// Nothing may come before CONNACK.
func TestNext_DelayedConnackBlocksOthers(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		c.subscribe(1, "t")
		c.cut()
		if _, err := b.Publish(Message{Topic: "t", QoS: 1}); err != nil {
			t.Fatal(err)
		}
		b.Next("c", CONNACK).Delay(5 * time.Second)
		start := time.Now()
		c = back(t, b, "c")
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("CONNACK came after %v", took)
		}
		c.receive()
		b.Next("c", DISCONNECT).Delay(time.Hour)
		start = time.Now()
		if err := b.Close(); err != nil || time.Since(start) > 0 {
			t.Errorf("Close returned %v after %v", err, time.Since(start))
		}
		c.over(reasonServerShuttingDown)
	})
}

func TestNext_FaultsHappenInOrder(t *testing.T) {
	inExchange(t, func(t *testing.T, b *Broker, c *rawClient) {
		b.Next("c", PUBACK).Swallow()
		b.Next("", PUBACK).Refuse(0x97, "")
		third := b.Next("c", PUBACK).Duplicate()
		for id := range uint16(3) {
			c.put(wire.Publish{Topic: "own", QoS: 1, PacketID: id + 1, Payload: []byte("x")})
		}
		c.t.Helper()
		var acks []string
		for len(acks) < 3 {
			if f := c.next(0); f.Type() == wire.PUBACK {
				a, err := wire.ParseAck(f)
				if err != nil {
					t.Fatal(err)
				}
				acks = append(acks, fmt.Sprintf("%d 0x%02X", a.PacketID, a.Reason))
			}
		}
		if want := []string{"2 0x97", "3 0x00", "3 0x00"}; !reflect.DeepEqual(acks, want) {
			t.Errorf("got %q, want %q", acks, want)
		}
		if err := third.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if b.replies.armed.Load() {
			t.Error("packets are still compared")
		}
	})
}

func TestFault_WaitNamesMissingPacket(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := b.Next("pump", PUBACK).Swallow().Wait(ctx)
		if want := `mqtttest: no PUBACK was sent to client "pump": context deadline exceeded`; err == nil || err.Error() != want {
			t.Errorf("got %v", err)
		}
		if err := b.Next("", PUBACK).Swallow().Wait(ctx); err == nil || !strings.Contains(err.Error(), "a client") {
			t.Errorf("got %v", err)
		}
	})
}

func TestNext_WorksForMQTT311(t *testing.T) {
	inBubble(t, Options{MQTT311: true}, func(t *testing.T, b *Broker) {
		b.Next("c", PINGRESP).Duplicate()
		b.Next("c", PUBACK).Replace([]byte{0x40, 1, 0}) // sent as it is
		c := open(t, b.Dial())
		c.send([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'})
		for _, want := range [][]byte{{0x20, 2, 0, 0}, {0xD0, 0}, {0xD0, 0}, {0x40, 1, 0}} {
			if got := c.next(0).Raw; !bytes.Equal(got, want) {
				t.Errorf("got % x, want % x", got, want)
			}
			switch want[0] {
			case 0x20:
				c.send(control.AppendPingreq(nil))
			case 0xD0:
				c.send([]byte{0x32, 5, 0, 1, 't', 0, 1})
			}
		}
	})
}

// The hook sees what is sent, after the faults.
func TestNext_OnPacketSeesChangedPacket(t *testing.T) {
	var seen [][]byte
	o := Options{OnPacket: func(_ context.Context, dir Direction, _ string, packet []byte) {
		if dir == ToClient && PacketType(packet[0]>>4) != CONNACK {
			seen = append(seen, bytes.Clone(packet))
		}
	}}
	inBubble(t, o, func(t *testing.T, b *Broker) {
		c := fresh(t, b, "c")
		b.Next("c", PINGRESP).Swallow()
		b.Next("c", PINGRESP).Duplicate()
		b.Next("c", PINGRESP).Replace([]byte{0xFF})
		for range 4 {
			c.send(control.AppendPingreq(nil))
			synctest.Wait()
		}
	})
	want := [][]byte{{0xD0, 0}, {0xD0, 0}, {0xFF}, {0xD0, 0}, {0xE0, 1, 0x8B}}
	if !reflect.DeepEqual(seen, want) {
		t.Errorf("saw % x", seen)
	}
}

func TestPacket_RoundTrip(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, raw := range [][]byte{
		control.AppendConnack(nil, &control.Connack{SessionPresent: true, ReasonString: "r", User: []wire.UserProperty{{Key: "a", Value: "b"}}}),
		wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: 300}),
		wire.AppendAck(nil, wire.Ack{Type: wire.PUBREL, PacketID: 1, Reason: 0x92}),
		control.AppendSuback(nil, &control.Suback{PacketID: 5, Reasons: []byte{0, 1, 2, 0x80}, ReasonString: long}),
		control.AppendUnsuback(nil, &control.Suback{PacketID: 5, Reasons: []byte{0x11}}),
		control.AppendDisconnect(nil, &control.Disconnect{}),
		control.AppendDisconnect(nil, &control.Disconnect{ReasonString: "r"}),
		control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E, ReasonString: "r", User: []wire.UserProperty{{Key: "a", Value: "b"}}}),
		control.AppendPingresp(nil),
		wire.AppendPublish(nil, &wire.Publish{Topic: "t", Payload: []byte(long)}),
		wire.AppendPublish(nil, &wire.Publish{Topic: "t", QoS: 2, Dup: true, Retain: true, PacketID: 65535, ContentType: "c", User: []wire.UserProperty{{Key: "a", Value: ""}}}),
	} {
		p := parsePacket(raw)
		if got := p.encode(); !bytes.Equal(got, raw) {
			t.Errorf("%v became % x, from % x", p.Type, got, raw)
		}
	}
}
