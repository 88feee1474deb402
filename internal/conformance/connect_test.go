package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.1: CONNECT.

// connectPacket is a CONNECT taken apart by the byte, without the codec.
type connectPacket struct {
	flags     byte
	keepAlive uint16
	payload   []byte // all behind the properties
}

func (r *rig) connectPacket() connectPacket {
	r.t.Helper()
	return takeApart(r.t, r.connectFrame())
}

func takeApart(t *testing.T, f wire.Frame) connectPacket {
	t.Helper()
	if want := []byte{0, 4, 'M', 'Q', 'T', 'T', 5}; !bytes.HasPrefix(f.Body, want) {
		t.Fatalf("CONNECT % x, want it to begin with % x", f.Body, want)
	}
	size, n := varint(t, f.Body[10:])
	return connectPacket{flags: f.Body[7], keepAlive: uint16(f.Body[8])<<8 | uint16(f.Body[9]), payload: f.Body[10+n+size:]}
}

// wantConnect wants the CONNECT of a configuration to have these flags and this
// payload, byte for byte.
func wantConnect(t *testing.T, name string, edit func(*client.Config), flags byte, payload ...any) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			edit(&r.cfg)
			p := r.connectPacket()
			if p.flags != flags {
				t.Errorf("Connect Flags are %08b, want %08b", p.flags, flags)
			}
			if want := bytesOf(payload...); !bytes.Equal(p.payload, want) {
				t.Errorf("the payload is\n% x, want\n% x", p.payload, want)
			}
		})
	})
}

// everything is a configuration that uses all that a CONNECT can carry.
func everything(c *client.Config) {
	c.Username, c.Password = "user", []byte{0xFF, 0x00}
	c.Will = &client.Will{Topic: "w", Payload: []byte{1, 0, 2}, QoS: client.ExactlyOnce, Retain: true, Delay: 3 * time.Second, Expiry: 4 * time.Second,
		ContentType: "ct", ResponseTopic: "rt", CorrelationData: []byte{5}, UserProperties: []client.UserProperty{{Key: "k", Value: "v"}}}
}

// [MQTT-3.1.0-1]: the first packet on a connection is CONNECT.
func TestMQTT_3_1_0_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Status = &client.Status{Topic: "s"}
		r.cfg.KeepAlive = time.Second
		r.cfg.ConnectTimeout = time.Hour
		c := r.client()
		// All that wants to be sent waits, on the first connection and on each
		// later one.
		r.publish(c, client.AtLeastOnce, "1")
		r.publish(c, client.ExactlyOnce, "2")
		r.must(<-subscribe(t.Context(), c, "f"))
		for range 3 {
			if _, err := c.Publish(t.Context(), client.Message{Topic: "t"}); !errors.Is(err, client.ErrNotConnected) {
				t.Errorf("QoS 0 without a connection: %v", err)
			}
			conn := r.Accept()
			conn.ExpectConnect()
			conn.QuietFor(time.Minute) // nor anything behind it, without a CONNACK
			conn.Connack(control.Connack{})
			if conn.Next().Type() == wire.CONNECT {
				t.Error("a second CONNECT came") // [MQTT-3.1.0-2]
			}
			synctest.Wait()
			conn.Close()
			for _, f := range conn.Rest() {
				if f.Type() == wire.CONNECT {
					t.Error("a second CONNECT came")
				}
			}
		}
	})
}

// [MQTT-3.1.2-1]: the protocol name is the UTF-8 string "MQTT".
func TestMQTT_3_1_2_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		if f := r.connectFrame(); !bytes.HasPrefix(f.Body, []byte("\x00\x04MQTT\x05")) {
			t.Errorf("CONNECT begins with % x", f.Body[:7])
		}
	})
}

// [MQTT-3.1.2-4]: Clean Start 1 discards the session; Client and Server start a
// new one.
func TestMQTT_3_1_2_4(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		restart := r.store()
		c, conn := r.receiver(control.Connack{}, r.keep)
		// The old session: one half sent, one sent, one half received.
		r.publish(c, client.ExactlyOnce, "half")
		conn.Ack(wire.PUBREC, conn.ExpectPublish().PacketID, 0)
		conn.ExpectAck(wire.PUBREL)
		r.publish(c, client.AtLeastOnce, "sent")
		conn.ExpectPublish()
		conn.Publish(message(2, 7, "old "))
		conn.ExpectAck(wire.PUBREC)
		r.must(c.Close())

		restart()
		r.cfg.CleanStart = true
		c, err := client.New(r.cfg)
		r.must(err)
		t.Cleanup(func() { _ = c.Close() })
		r.must(c.Handle("#", client.HandlerFunc(r.keep)))
		r.must(c.Start(t.Context()))
		conn, connect := r.Connect(control.Connack{})
		if !connect.CleanStart {
			t.Error("Clean Start is 0")
		}
		// Nothing of the old one: no PUBREL, no DUP, and 7 is a new message.
		first := r.wantPublish(conn, "half", false)
		second := r.wantPublish(conn, "sent", false)
		conn.Publish(message(2, 7, "new"))
		conn.ExpectAck(wire.PUBREC)
		r.wantKept("old new")
		conn.Ack(wire.PUBREC, first.PacketID, 0)
		conn.ExpectAck(wire.PUBREL)
		conn.Quiet()

		// The session that began so is resumed.
		conn = r.resume(conn)
		publishes, rels := resent(t, conn)
		if want := []string{fmt.Sprint("sent ", second.PacketID)}; !slices.Equal(publishes, want) {
			t.Errorf("sent again was %v, want %v", publishes, want)
		}
		if want := []uint16{first.PacketID}; !slices.Equal(rels, want) {
			t.Errorf("PUBREL for %v, want %v", rels, want)
		}
	})
	t.Run("a server that resumes all the same", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.CleanStart = true
			c := r.client()
			r.publish(c, client.ExactlyOnce, "x")
			conn, _ := r.Connect(control.Connack{SessionPresent: true})
			for _, f := range conn.Rest() {
				if f.Type() != wire.DISCONNECT {
					t.Errorf("%v was sent in the old session", f.Type())
				}
			}
		})
	})
}

// resent is what a client has sent by now on a resumed session: PUBLISH with its
// identifier, and PUBREL. The two kinds are in no order to each other.
func resent(t *testing.T, conn *fakebroker.Conn) (publishes []string, rels []uint16) {
	t.Helper()
	for _, f := range conn.Take() {
		switch f.Type() {
		case wire.PUBLISH:
			v, err := wire.ParsePublish(f)
			if err != nil || !v.Dup {
				t.Errorf("PUBLISH % x: %v, DUP %v", f.Raw, err, v.Dup)
			}
			publishes = append(publishes, fmt.Sprint(string(v.Payload), " ", v.PacketID))
		case wire.PUBREL:
			a, err := wire.ParseAck(f)
			if err != nil {
				t.Error(err)
			}
			rels = append(rels, a.PacketID)
		default:
			t.Errorf("%v % x came", f.Type(), f.Raw)
		}
	}
	return publishes, rels
}

// [MQTT-3.1.2-9]: with a Will Flag the Will Properties, Topic and Payload are in
// the payload.
func TestMQTT_3_1_2_9(t *testing.T) {
	wantConnect(t, "bare", func(c *client.Config) { c.Will = &client.Will{Topic: "w"} }, 0b0000_0100, "c", 0, "w", "")
	wantConnect(t, "with a payload", func(c *client.Config) { c.Will = &client.Will{Topic: "w", Payload: []byte("p")} }, 0b0000_0100, "c", 0, "w", "p")
	wantConnect(t, "with a delay", func(c *client.Config) { c.Will = &client.Will{Topic: "w", Delay: 3 * time.Second} }, 0b0000_0100,
		"c", props(wire.PropWillDelay, uint32(3)), "w", "")
	wantConnect(t, "a status", func(c *client.Config) { c.Status = &client.Status{Topic: "s"} }, 0b0010_1100, "c", 0, "s", "offline")
	wantConnect(t, "none", func(*client.Config) {}, 0, "c")
	t.Run("everything", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			everything(&r.cfg)
			r.client()
			_, connect := r.Open()
			w := connect.Will
			if w == nil || w.Topic != "w" || !bytes.Equal(w.Payload, []byte{1, 0, 2}) || w.Delay != 3 {
				t.Fatalf("the will is %+v", w)
			}
			for _, want := range [][]byte{bytesOf(wire.PropMessageExpiry, uint32(4)), bytesOf(wire.PropContentType, "ct"), bytesOf(wire.PropResponseTopic, "rt"),
				bytesOf(wire.PropCorrelationData, uint16(1), 5), bytesOf(wire.PropUser, "k", "v")} {
				if !bytes.Contains(w.Properties, want) {
					t.Errorf("the Will Properties % x have no % x", w.Properties, want)
				}
			}
		})
	})
}

// flagsOf is a configuration for each use of the will, and its Connect Flags.
func flagsOf(t *testing.T, check func(t *testing.T, hasWill bool, flags byte)) {
	for _, will := range []*client.Will{nil, {Topic: "w"}, {Topic: "w", QoS: 1}, {Topic: "w", QoS: 2}, {Topic: "w", Retain: true}, {Topic: "w", QoS: 2, Retain: true}} {
		for _, user := range []bool{false, true} {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Will = will
				if r.cfg.CleanStart = user; user {
					r.cfg.Username, r.cfg.Password = "u", []byte("p")
				}
				p := r.connectPacket()
				if has := p.flags&0x04 != 0; has != (will != nil) {
					t.Fatalf("the Will Flag is %v", has)
				}
				if will != nil && (p.flags>>3&3 != byte(will.QoS) || p.flags&0x20 != 0 != will.Retain) {
					t.Errorf("the flags are %08b for %+v", p.flags, will)
				}
				check(t, will != nil, p.flags)
			})
		}
	}
}

// [MQTT-3.1.2-11]: without a will, Will QoS is 0.
func TestMQTT_3_1_2_11(t *testing.T) {
	flagsOf(t, func(t *testing.T, hasWill bool, flags byte) {
		if !hasWill && flags&0x18 != 0 {
			t.Errorf("Will QoS is set in %08b", flags)
		}
	})
}

// [MQTT-3.1.2-12]: with a will, Will QoS is 0, 1 or 2.
func TestMQTT_3_1_2_12(t *testing.T) {
	flagsOf(t, func(t *testing.T, hasWill bool, flags byte) {
		if hasWill && flags>>3&3 == 3 {
			t.Errorf("Will QoS is 3 in %08b", flags)
		}
	})
	for qos := client.QoS(3); qos < 255; qos += 4 { // 7, 11 … have both bits set too
		wantImpossible(t, map[string]func(*client.Config){"QoS": func(c *client.Config) { c.Will = &client.Will{Topic: "w", QoS: qos} }})
	}
}

// [MQTT-3.1.2-13]: without a will, Will Retain is 0.
func TestMQTT_3_1_2_13(t *testing.T) {
	flagsOf(t, func(t *testing.T, hasWill bool, flags byte) {
		if !hasWill && flags&0x20 != 0 {
			t.Errorf("Will Retain is set in %08b", flags)
		}
	})
}

// wantUsers checks each combination of user name and password, byte for byte.
func wantUsers(t *testing.T) {
	t.Helper()
	wantConnect(t, "neither", func(*client.Config) {}, 0, "c")
	wantConnect(t, "user name", func(c *client.Config) { c.Username = "user" }, 0x80, "c", "user")
	wantConnect(t, "password", func(c *client.Config) { c.Password = []byte{0xFF, 0} }, 0x40, "c", "\xff\x00")
	wantConnect(t, "both", func(c *client.Config) { c.Username, c.Password = "user", []byte("pass") }, 0xC0, "c", "user", "pass")
	wantConnect(t, "empty password", func(c *client.Config) { c.Username, c.Password = "user", []byte{} }, 0xC0, "c", "user", "")
	wantConnect(t, "empty password alone", func(c *client.Config) { c.Password = []byte{} }, 0, "c")
	wantConnect(t, "both and a will", func(c *client.Config) {
		c.Username, c.Password, c.Will = "user", []byte("pass"), &client.Will{Topic: "w", Payload: []byte("p")}
	}, 0xC4, "c", 0, "w", "p", "user", "pass")
}

// [MQTT-3.1.2-16]: User Name Flag 0, no user name.
func TestMQTT_3_1_2_16(t *testing.T) { wantUsers(t) }

// [MQTT-3.1.2-17]: User Name Flag 1, a user name.
func TestMQTT_3_1_2_17(t *testing.T) { wantUsers(t) }

// [MQTT-3.1.2-18]: Password Flag 0, no password.
func TestMQTT_3_1_2_18(t *testing.T) { wantUsers(t) }

// [MQTT-3.1.2-19]: Password Flag 1, a password.
func TestMQTT_3_1_2_19(t *testing.T) { wantUsers(t) }

// pace follows a connection for as long as d: each packet of the client must come
// within keepAlive of the one before. PINGREQ is answered; their number is
// returned.
func pace(t *testing.T, conn *fakebroker.Conn, keepAlive, d time.Duration, meanwhile func(second int)) (pings int) {
	t.Helper()
	last := time.Now()
	for second := range int(d / time.Second) {
		time.Sleep(time.Second)
		for _, f := range conn.Take() {
			last = time.Now()
			if f.Type() == wire.PINGREQ {
				pings++
				conn.Pingresp()
			}
		}
		if silent := time.Since(last); silent > keepAlive {
			t.Fatalf("nothing was sent for %v, the Keep Alive is %v", silent, keepAlive)
		}
		meanwhile(second)
	}
	return pings
}

// [MQTT-3.1.2-20]: with a Keep Alive and nothing else to send, PINGREQ is sent.
func TestMQTT_3_1_2_20(t *testing.T) {
	const keepAlive, long = 10 * time.Second, 10 * time.Minute
	tests := map[string]func(r *rig, c *client.Client, conn *fakebroker.Conn, second int){
		"idle": func(*rig, *client.Client, *fakebroker.Conn, int) {},
		// What the server says does not count, only what we say.
		"the server talks": func(_ *rig, _ *client.Client, conn *fakebroker.Conn, _ int) {
			conn.Publish(message(0, 0, "x"))
		},
		// A message shortly before it is due, and then nothing.
		"now and then": func(r *rig, c *client.Client, _ *fakebroker.Conn, second int) {
			if second%27 == 8 {
				r.publish(c, client.AtMostOnce, "x")
			}
		},
		"a message that is not acknowledged": func(r *rig, c *client.Client, conn *fakebroker.Conn, second int) {
			if second == 3 {
				r.publish(c, client.AtLeastOnce, "x")
			}
			if second%5 == 0 {
				conn.Publish(message(0, 0, "x"))
			}
		},
	}
	for name, meanwhile := range tests {
		t.Run(name, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.KeepAlive = keepAlive
				c := r.client()
				conn, connect := r.Connect(control.Connack{})
				if connect.KeepAlive != 10 {
					t.Errorf("Keep Alive is %d s", connect.KeepAlive)
				}
				r.must(c.AwaitConnection(t.Context()))
				if pings := pace(t, conn, keepAlive, long, func(second int) { meanwhile(r, c, conn, second) }); pings < 20 {
					t.Errorf("%d PINGREQ in %v", pings, long)
				}
			})
		})
	}
}

// wantServerKeepAlive wants the server's Keep Alive to be used, in place of one
// that is longer, shorter or none.
func wantServerKeepAlive(t *testing.T) {
	t.Helper()
	for _, own := range []time.Duration{5 * time.Second, time.Minute, 65_535 * time.Second} {
		for _, servers := range []uint16{1, 20, 30, 600} {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.KeepAlive = own
				c := r.client()
				conn, connect := r.Connect(control.Connack{HasServerKeepAlive: true, ServerKeepAlive: servers})
				if connect.KeepAlive != uint16(own/time.Second) {
					t.Errorf("CONNECT says %d s, want %v", connect.KeepAlive, own)
				}
				r.must(c.AwaitConnection(t.Context()))
				want := time.Duration(servers) * time.Second
				if own == 5*time.Second && want > own { // no sooner: the value takes the place of ours
					conn.QuietFor(want / 2)
					r.publish(c, client.AtMostOnce, "x")
					conn.ExpectPublish()
				}
				if pings := pace(t, conn, want, 8*want, func(int) {}); pings < 7 || pings > 16 {
					t.Errorf("%d PINGREQ in %v, where the server wants one in %v", pings, 8*want, want)
				}
				// And no PINGRESP is missed by that clock, not by ours.
				begin := time.Now()
				r.Patience = 24 * time.Hour
				conn.ExpectPingreq()
				conn.ExpectClosed()
				if took := time.Since(begin); took > 5*want/2+time.Second {
					t.Errorf("a dead link was noticed after %v, with a Keep Alive of %v", took, want)
				}
			})
		}
	}
	onRig(t, func(t *testing.T, r *rig) { // 0 turns it off
		r.cfg.KeepAlive = 5 * time.Second
		_, conn := r.start(control.Connack{HasServerKeepAlive: true})
		conn.QuietFor(24 * time.Hour)
	})
	onRig(t, func(t *testing.T, r *rig) { // it holds for its connection only
		r.cfg.KeepAlive = 5 * time.Second
		c, conn := r.start(control.Connack{HasServerKeepAlive: true, ServerKeepAlive: 600})
		conn.Close()
		conn, connect := r.Connect(control.Connack{SessionPresent: true})
		r.must(c.AwaitConnection(t.Context()))
		if connect.KeepAlive != 5 {
			t.Errorf("the next CONNECT says %d s", connect.KeepAlive)
		}
		pace(t, conn, 5*time.Second, time.Minute, func(int) {})
	})
}

// [MQTT-3.1.2-21]: a Server Keep Alive is used instead of the one that was sent.
func TestMQTT_3_1_2_21(t *testing.T) { wantServerKeepAlive(t) }

// [MQTT-3.1.2-23]: the session state is kept after the connection is closed, if
// the Session Expiry Interval is greater than 0.
func TestMQTT_3_1_2_23(t *testing.T) {
	for name, ends := range map[string]func(r *rig, c *client.Client, conn *fakebroker.Conn, restart func()) *client.Client{
		"the link is cut": func(_ *rig, c *client.Client, conn *fakebroker.Conn, _ func()) *client.Client {
			conn.Close()
			return c
		},
		"the process ends": func(r *rig, c *client.Client, _ *fakebroker.Conn, restart func()) *client.Client {
			r.must(c.Close())
			restart()
			c, err := client.New(r.cfg)
			r.must(err)
			r.t.Cleanup(func() { _ = c.Close() })
			r.must(c.Handle("#", client.HandlerFunc(r.keep)))
			r.must(c.Start(context.Background()))
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				restart := r.store()
				c, conn := r.receiver(control.Connack{}, r.keep)
				r.publish(c, client.AtLeastOnce, "one")
				one := conn.ExpectPublish()
				r.publish(c, client.ExactlyOnce, "two")
				two := conn.ExpectPublish()
				r.publish(c, client.ExactlyOnce, "released")
				released := conn.ExpectPublish()
				conn.Ack(wire.PUBREC, released.PacketID, 0)
				conn.ExpectAck(wire.PUBREL)
				conn.Publish(message(2, 7, "in"))
				conn.ExpectAck(wire.PUBREC)

				c = ends(r, c, conn, restart)
				conn, connect := r.Connect(control.Connack{SessionPresent: true})
				if connect.CleanStart || connect.SessionExpiry == 0 {
					t.Errorf("CONNECT %+v", connect)
				}
				r.must(c.AwaitConnection(t.Context()))
				publishes, rels := resent(t, conn)
				if want := []string{fmt.Sprint("one ", one.PacketID), fmt.Sprint("two ", two.PacketID)}; !slices.Equal(publishes, want) {
					t.Errorf("sent again was %v, want %v", publishes, want)
				}
				if want := []uint16{released.PacketID}; !slices.Equal(rels, want) {
					t.Errorf("PUBREL for %v, want %v", rels, want)
				}
				conn.Publish(again(message(2, 7, "in"))) // known: not handled again
				conn.ExpectAck(wire.PUBREC)
				r.wantKept("in")
			})
		})
	}
}

// [MQTT-3.1.2-30]: with an Authentication Method, nothing but AUTH or DISCONNECT
// is sent before CONNACK. Nothing at all is, with or without one.
func TestMQTT_3_1_2_30(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Status = &client.Status{Topic: "s"}
		r.cfg.KeepAlive, r.cfg.ConnectTimeout = time.Second, time.Hour
		c := r.client()
		conn, connect := r.Open()
		if connect.AuthMethod != "" {
			t.Errorf("Authentication Method %q was not asked for", connect.AuthMethod)
		}
		r.publish(c, client.AtLeastOnce, "1")
		r.publish(c, client.ExactlyOnce, "2")
		_, _ = c.Publish(t.Context(), client.Message{Topic: "t"})
		r.must(<-subscribe(t.Context(), c, "f"))
		r.must(<-unsubscribe(t.Context(), c, "f"))
		conn.QuietFor(time.Minute)
		go func() { _ = c.Close() }()
		for _, f := range conn.Rest() {
			if f.Type() != wire.DISCONNECT {
				t.Errorf("%v came before CONNACK", f.Type())
			}
		}
	})
}

// [MQTT-3.1.3-1]: the payload is Client Identifier, Will Properties, Will Topic,
// Will Payload, User Name, Password, in this order.
func TestMQTT_3_1_3_1(t *testing.T) {
	// All six fields look alike, so that only the order tells them apart.
	wantConnect(t, "all", func(c *client.Config) {
		c.ClientID, c.Username, c.Password = "1", "5", []byte("6")
		c.Will = &client.Will{Topic: "3", Payload: []byte("4"), Delay: 2 * time.Second}
	}, 0xC4, "1", props(wire.PropWillDelay, uint32(2)), "3", "4", "5", "6")
	wantConnect(t, "long ones", func(c *client.Config) {
		c.ClientID, c.Username = strings.Repeat("1", 300), strings.Repeat("5", 70_000-5_000)
		c.Will = &client.Will{Topic: strings.Repeat("3", 400), Payload: bytes.Repeat([]byte("4"), 65_535),
			UserProperties: []client.UserProperty{{Key: strings.Repeat("k", 500), Value: ""}}}
	}, 0x84, strings.Repeat("1", 300), props(wire.PropUser, strings.Repeat("k", 500), ""), strings.Repeat("3", 400), strings.Repeat("4", 65_535), strings.Repeat("5", 65_000))
	wantConnect(t, "without a will", func(c *client.Config) { c.ClientID, c.Username, c.Password = "1", "5", []byte("6") }, 0xC0, "1", "5", "6")
	wantConnect(t, "without a user name", func(c *client.Config) { c.ClientID, c.Password, c.Will = "1", []byte("6"), &client.Will{Topic: "3"} }, 0x44, "1", 0, "3", "", "6")
}

// [MQTT-3.1.3-2]: the ClientID identifies the session state.
func TestMQTT_3_1_3_2(t *testing.T) {
	for _, id := range []string{"given", ""} {
		t.Run("each connection, "+id, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.ClientID = id
				c := r.client()
				conn, connect := r.Connect(control.Connack{})
				for range 3 {
					conn.Close()
					var next control.Connect
					if conn, next = r.Connect(control.Connack{SessionPresent: true}); next.ClientID != connect.ClientID || next.ClientID == "" {
						t.Errorf("the ClientID is %q, and was %q", next.ClientID, connect.ClientID)
					}
				}
				if c.ClientID() != connect.ClientID || id != "" && id != connect.ClientID {
					t.Errorf("the ClientID is %q, want %q", connect.ClientID, id)
				}
			})
		})
	}
	t.Run("two clients", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.ClientID = ""
			r.client()
			_, one := r.Open()
			r.client()
			_, two := r.Open()
			if one.ClientID == two.ClientID {
				t.Errorf("both use %q", one.ClientID)
			}
		})
	})
}

// [MQTT-3.1.3-3]: the ClientID is present, and the first field of the payload.
func TestMQTT_3_1_3_3(t *testing.T) {
	for name, edit := range map[string]func(*client.Config){"bare": func(*client.Config) {}, "everything": everything} {
		t.Run(name, func(t *testing.T) {
			onRig(t, func(t *testing.T, r *rig) {
				edit(&r.cfg)
				r.cfg.ClientID = "the-client"
				if p := r.connectPacket(); !bytes.HasPrefix(p.payload, bytesOf("the-client")) {
					t.Errorf("the payload is % x", p.payload)
				}
			})
		})
	}
	t.Run("none is configured", func(t *testing.T) {
		onRig(t, func(t *testing.T, r *rig) {
			r.cfg.ClientID = ""
			if p := r.connectPacket(); len(p.payload) < 3 || int(p.payload[0])<<8+int(p.payload[1]) != len(p.payload)-2 {
				t.Errorf("the payload is % x", p.payload)
			}
		})
	})
}

// wantStringInConnect wants good strings to be sent as they are, and bad ones to
// be refused before there is a connection.
func wantStringInConnect(t *testing.T, set func(c *client.Config, s string), flags byte, payload func(s string) []any) {
	t.Helper()
	for _, s := range []string{"a", "\u00e9\u6f22\U0001F600", "\uFEFFx", "\U0010FFFF", strings.Repeat("\u6f22", 21_845)} {
		wantConnect(t, s[:min(len(s), 6)], func(c *client.Config) { set(c, s) }, flags, payload(s)...)
	}
	for _, s := range append(append([]string{strings.Repeat("x", 65_536)}, illFormed...), withNull...) {
		wantImpossible(t, map[string]func(*client.Config){s[:min(len(s), 6)]: func(c *client.Config) { set(c, s) }})
	}
}

// [MQTT-3.1.3-4]: the ClientID is a UTF-8 Encoded String.
func TestMQTT_3_1_3_4(t *testing.T) {
	wantStringInConnect(t, func(c *client.Config, s string) { c.ClientID = s }, 0, func(s string) []any { return []any{s} })
}

// [MQTT-3.1.3-11]: the Will Topic is a UTF-8 Encoded String.
func TestMQTT_3_1_3_11(t *testing.T) {
	wantStringInConnect(t, func(c *client.Config, s string) { c.Will = &client.Will{Topic: s} }, 0x04, func(s string) []any { return []any{"c", 0, s, ""} })
	wantStringInConnect(t, func(c *client.Config, s string) { c.Status = &client.Status{Topic: s} }, 0x2C, func(s string) []any { return []any{"c", 0, s, "offline"} })
}

// [MQTT-3.1.3-12]: with a User Name Flag the User Name is next, and a UTF-8
// Encoded String.
func TestMQTT_3_1_3_12(t *testing.T) {
	wantStringInConnect(t, func(c *client.Config, s string) { c.Username = s }, 0x80, func(s string) []any { return []any{"c", s} })
	wantStringInConnect(t, func(c *client.Config, s string) {
		c.Username, c.Will, c.Password = s, &client.Will{Topic: "w"}, []byte("p")
	}, 0xC4,
		func(s string) []any { return []any{"c", 0, "w", "", s, "p"} })
}
