package conformance

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// Section 3.1: CONNECT.

// connectPacket is a CONNECT that was decoded byte by byte, without the codec.
type connectPacket struct {
	flags     byte
	keepAlive uint16
	payload   []byte // all bytes after the properties
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

// wantConnect checks that the CONNECT of a configuration has exactly these flags and this payload.
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

// everything is a configuration that uses every part of CONNECT.
func everything(c *client.Config) {
	c.Connection.Username, c.Connection.Password = "user", []byte{0xFF, 0x00}
	c.Presence.Will = &client.Will{Topic: "w", Payload: []byte{1, 0, 2}, QoS: client.ExactlyOnce, Retain: true, Delay: 3 * time.Second, Expiry: 4 * time.Second,
		ContentType: "ct", ResponseTopic: "rt", CorrelationData: []byte{5}, UserProperties: []client.UserProperty{{Key: "k", Value: "v"}}}
}

// [MQTT-3.1.0-1]: the first packet on a connection is CONNECT.
func TestMQTT_3_1_0_1(t *testing.T) {
	onRig(t, func(t *testing.T, r *rig) {
		r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
		r.cfg.Connection.KeepAlive = time.Second
		r.cfg.Connection.ConnectTimeout = time.Hour
		c := r.client()
		// Packets that the client wants to send wait, on the first connection and on each later
		// one.
		r.publish(c, client.AtLeastOnce, "1")
		r.publish(c, client.ExactlyOnce, "2")
		r.must(<-subscribe(t.Context(), c, "f"))
		for range 3 {
			synctest.Wait() // the client has noticed the end of the connection; before, it would accept a QoS 0 message and lose it
			if _, err := c.Publish(t.Context(), client.Message{Topic: "t"}); !errors.Is(err, client.ErrNotConnected) {
				t.Errorf("QoS 0 without a connection: %v", err)
			}
			conn := r.Accept()
			conn.ExpectConnect()
			conn.QuietFor(time.Minute) // nor anything after it, without a CONNACK
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

// [MQTT-3.1.2-9]: with a Will Flag the Will Properties, Topic and Payload are in
// the payload.
func TestMQTT_3_1_2_9(t *testing.T) {
	wantConnect(t, "bare", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w"} }, 0b0000_0100, "c", 0, "w", "")
	wantConnect(t, "with a payload", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", Payload: []byte("p")} }, 0b0000_0100, "c", 0, "w", "p")
	wantConnect(t, "with a delay", func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", Delay: 3 * time.Second} }, 0b0000_0100,
		"c", props(wire.PropWillDelay, uint32(3)), "w", "")
	wantConnect(t, "a status", func(c *client.Config) { c.Presence.Status = &client.Status{Topic: "s", NoCorrection: true} }, 0b0010_1100, "c", 0, "s", "offline")
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

// flagsOf checks the Connect Flags of a configuration for each use of the will.
func flagsOf(t *testing.T, check func(t *testing.T, hasWill bool, flags byte)) {
	for _, will := range []*client.Will{nil, {Topic: "w"}, {Topic: "w", QoS: 1}, {Topic: "w", QoS: 2}, {Topic: "w", Retain: true}, {Topic: "w", QoS: 2, Retain: true}} {
		for _, user := range []bool{false, true} {
			onRig(t, func(t *testing.T, r *rig) {
				r.cfg.Presence.Will = will
				if r.cfg.Session.CleanStart = user; user {
					r.cfg.Connection.Username, r.cfg.Connection.Password = "u", []byte("p")
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
	for qos := client.QoS(3); qos < 255; qos += 4 { // 7, 11 and so on have both bits set too
		wantImpossible(t, map[string]func(*client.Config){"QoS": func(c *client.Config) { c.Presence.Will = &client.Will{Topic: "w", QoS: qos} }})
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
	wantConnect(t, "user name", func(c *client.Config) { c.Connection.Username = "user" }, 0x80, "c", "user")
	wantConnect(t, "password", func(c *client.Config) { c.Connection.Password = []byte{0xFF, 0} }, 0x40, "c", "\xff\x00")
	wantConnect(t, "both", func(c *client.Config) { c.Connection.Username, c.Connection.Password = "user", []byte("pass") }, 0xC0, "c", "user", "pass")
	wantConnect(t, "empty password", func(c *client.Config) { c.Connection.Username, c.Connection.Password = "user", []byte{} }, 0xC0, "c", "user", "")
	wantConnect(t, "empty password alone", func(c *client.Config) { c.Connection.Password = []byte{} }, 0, "c")
	wantConnect(t, "both and a will", func(c *client.Config) {
		c.Connection.Username, c.Connection.Password, c.Presence.Will = "user", []byte("pass"), &client.Will{Topic: "w", Payload: []byte("p")}
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

// [MQTT-3.1.2-30]: with an Authentication Method, only AUTH or DISCONNECT may be sent before
// CONNACK. Without one, only DISCONNECT may be sent.
func TestMQTT_3_1_2_30(t *testing.T) {
	for _, method := range []string{"", "m"} {
		onRig(t, func(t *testing.T, r *rig) {
			if method != "" {
				r.cfg.Connection.Auth = &credential{method}
			}
			r.cfg.Presence.Status = &client.Status{Topic: "s", NoCorrection: true}
			r.cfg.Connection.KeepAlive, r.cfg.Connection.ConnectTimeout = time.Second, time.Hour
			c := r.client()
			conn, connect := r.Open()
			if connect.AuthMethod != method {
				t.Errorf("the Authentication Method is %q, want %q", connect.AuthMethod, method)
			}
			r.publish(c, client.AtLeastOnce, "1")
			r.publish(c, client.ExactlyOnce, "2")
			_, _ = c.Publish(t.Context(), client.Message{Topic: "t"})
			r.must(<-subscribe(t.Context(), c, "f"))
			r.must(<-unsubscribe(t.Context(), c, "f"))
			conn.QuietFor(time.Minute)
			if method != "" {
				conn.Auth(control.Auth{Reason: 0x18, Method: method, Data: []byte("c")})
				conn.ExpectAuth()
				if err := c.Reauthenticate(t.Context()); !errors.Is(err, client.ErrNotConnected) {
					t.Errorf("a re-authentication before CONNACK: %v", err)
				}
				conn.QuietFor(time.Minute)
			}
			go func() { _ = c.Close() }()
			for _, f := range conn.Rest() {
				if f.Type() != wire.DISCONNECT {
					t.Errorf("%v came before CONNACK", f.Type())
				}
			}
		})
	}
}

// [MQTT-3.1.3-1]: the payload is Client Identifier, Will Properties, Will Topic,
// Will Payload, User Name, Password, in this order.
func TestMQTT_3_1_3_1(t *testing.T) {
	// All six fields look alike, so only their order distinguishes them.
	wantConnect(t, "all", func(c *client.Config) {
		c.ClientID, c.Connection.Username, c.Connection.Password = "1", "5", []byte("6")
		c.Presence.Will = &client.Will{Topic: "3", Payload: []byte("4"), Delay: 2 * time.Second}
	}, 0xC4, "1", props(wire.PropWillDelay, uint32(2)), "3", "4", "5", "6")
	wantConnect(t, "long ones", func(c *client.Config) {
		c.ClientID, c.Connection.Username = strings.Repeat("1", 300), strings.Repeat("5", 70_000-5_000)
		c.Presence.Will = &client.Will{Topic: strings.Repeat("3", 400), Payload: bytes.Repeat([]byte("4"), 65_535),
			UserProperties: []client.UserProperty{{Key: strings.Repeat("k", 500), Value: ""}}}
	}, 0x84, strings.Repeat("1", 300), props(wire.PropUser, strings.Repeat("k", 500), ""), strings.Repeat("3", 400), strings.Repeat("4", 65_535), strings.Repeat("5", 65_000))
	wantConnect(t, "without a will", func(c *client.Config) {
		c.ClientID, c.Connection.Username, c.Connection.Password = "1", "5", []byte("6")
	}, 0xC0, "1", "5", "6")
	wantConnect(t, "without a user name", func(c *client.Config) {
		c.ClientID, c.Connection.Password, c.Presence.Will = "1", []byte("6"), &client.Will{Topic: "3"}
	}, 0x44, "1", 0, "3", "", "6")
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

// wantStringInConnect checks that valid strings are sent unchanged, and invalid ones are refused
// before there is a connection.
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
	wantStringInConnect(t, func(c *client.Config, s string) { c.Presence.Will = &client.Will{Topic: s} }, 0x04, func(s string) []any { return []any{"c", 0, s, ""} })
	wantStringInConnect(t, func(c *client.Config, s string) { c.Presence.Status = &client.Status{Topic: s, NoCorrection: true} }, 0x2C, func(s string) []any { return []any{"c", 0, s, "offline"} })
}

// [MQTT-3.1.3-12]: with a User Name Flag the User Name is next, and a UTF-8
// Encoded String.
func TestMQTT_3_1_3_12(t *testing.T) {
	wantStringInConnect(t, func(c *client.Config, s string) { c.Connection.Username = s }, 0x80, func(s string) []any { return []any{"c", s} })
	wantStringInConnect(t, func(c *client.Config, s string) {
		c.Connection.Username, c.Presence.Will, c.Connection.Password = s, &client.Will{Topic: "w"}, []byte("p")
	}, 0xC4,
		func(s string) []any { return []any{"c", 0, "w", "", s, "p"} })
}
