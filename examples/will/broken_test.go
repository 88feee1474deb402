package main

import (
	"bytes"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// tampered simulates a connection to a faulty broker: it changes or removes packets.
type tampered struct {
	net.Conn
	toServer func(wire.Frame) []byte // returns the changed packet, or nil; nil: no changes
	toClient func(wire.Frame) bool   // reports whether the client receives the packet; nil: all

	once sync.Once
	r    *wire.Reader
	rest []byte
}

// Write requires whole packets. The client writes whole packets.
func (c *tampered) Write(p []byte) (int, error) {
	if c.toServer == nil {
		return c.Conn.Write(p)
	}
	var out []byte
	for r := wire.NewReader(bytes.NewReader(p), 0); ; {
		f, err := r.Next()
		if err != nil {
			break
		}
		if changed := c.toServer(f); changed != nil {
			out = append(out, changed...)
		} else {
			out = append(out, f.Raw...)
		}
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *tampered) Read(p []byte) (int, error) {
	if c.toClient == nil {
		return c.Conn.Read(p)
	}
	c.once.Do(func() { c.r = wire.NewReader(c.Conn, 0) })
	for len(c.rest) == 0 {
		f, err := c.r.Next()
		if err != nil {
			return 0, err
		}
		if c.toClient(f) {
			c.rest = slices.Clone(f.Raw)
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// onConnect changes the CONNECT packets of MQTT 5.
func onConnect(change func(*control.Connect)) *tampered {
	return &tampered{toServer: func(f wire.Frame) []byte {
		if f.Type() != wire.CONNECT {
			return nil
		}
		c, err := control.ParseConnect(f)
		if err != nil {
			return nil // MQTT 3.1.1
		}
		change(&c)
		return control.AppendConnect(nil, &c)
	}}
}

func onWill(change func(*control.Will)) *tampered {
	return onConnect(func(c *control.Connect) {
		if c.Will != nil {
			change(c.Will)
		}
	})
}

// TestCases_DetectBrokenBrokers: the cases detect each faulty broker, and each case detects one.
func TestCases_DetectBrokenBrokers(t *testing.T) {
	const every = "every case that expects a will"
	noticed := map[string]bool{}
	for _, tt := range []struct {
		name string
		how  *tampered
		by   []string
	}{
		{"wills are not delivered", &tampered{toClient: func(f wire.Frame) bool {
			return f.Type() != wire.PUBLISH || !bytes.HasSuffix(f.Raw, []byte(offline))
		}}, []string{every}},
		{"wills are ignored", onConnect(func(c *control.Connect) { c.Will = nil }), []string{"will without delay", "no reconnect within the delay", "status convention", "keep alive timeout"}},
		{"no delay", onWill(func(w *control.Will) { w.Delay = 0 }), []string{"no reconnect within the delay", "reconnect with Clean Start 0 within the delay",
			"reconnect with Clean Start 1 within the delay", "session that expires before the delay has passed", "takeover (0x8E) with Clean Start 0, will with a delay",
			"will that reports the end of the session", "DISCONNECT 0x04", "protocol error"}},
		{"delays are one second longer", onWill(func(w *control.Will) {
			if w.Delay > 0 {
				w.Delay++
			}
		}), []string{"no reconnect within the delay", "DISCONNECT 0x04", "protocol error"}},
		{"all wills have a delay", onWill(func(w *control.Will) { w.Delay++ }), []string{"will without delay", "takeover (0x8E), will without delay", "keep alive timeout", "retained will", "will that is not retained", "all will properties"}},
		{"DISCONNECT does not discard the will", &tampered{toServer: func(f wire.Frame) []byte {
			if d, err := control.ParseDisconnect(f); err == nil && d.Reason == 0 {
				return control.AppendDisconnect(nil, &control.Disconnect{Reason: 4})
			}
			return nil
		}}, []string{"DISCONNECT 0x00", "MQTT 3.1.1 client that sends DISCONNECT"}},
		{"DISCONNECT 0x04 discards the will", &tampered{toServer: func(f wire.Frame) []byte {
			if f.Type() == wire.DISCONNECT {
				return control.AppendDisconnect(nil, &control.Disconnect{})
			}
			return nil
		}}, []string{"DISCONNECT 0x04", "will that reports the end of the session"}},
		{"Clean Start 1 is ignored", onConnect(func(c *control.Connect) { c.CleanStart = false }), []string{"reconnect with Clean Start 1 within the delay", "takeover (0x8E) with Clean Start 1, will with a delay"}},
		{"sessions never expire", onConnect(func(c *control.Connect) { c.SessionExpiry = 0xFFFFFFFF }), []string{"session that expires before the delay has passed", "will that reports the end of the session",
			"takeover (0x8E) with Clean Start 0, session expiry 0, will with a delay", "reconnect with Clean Start 0, session expiry 0, will with a delay"}},
		{"sessions end with their connection", onConnect(func(c *control.Connect) { c.SessionExpiry = 0 }), []string{"reconnect with Clean Start 0 within the delay", "takeover (0x8E) with Clean Start 0, will with a delay"}},
		{"Keep Alive is ignored", onConnect(func(c *control.Connect) { c.KeepAlive = 0 }), []string{"keep alive timeout"}},
		{"takeovers are not reported", &tampered{toClient: func(f wire.Frame) bool { return f.Type() != wire.DISCONNECT }}, []string{"takeover (0x8E), will without delay",
			"takeover (0x8E) with Clean Start 0, will with a delay", "takeover (0x8E) with Clean Start 1, will with a delay", "takeover (0x8E) with Clean Start 0, session expiry 0, will with a delay"}},
		{"Will Retain is ignored", onWill(func(w *control.Will) { w.Retain = false }), []string{"retained will", "status convention"}},
		{"everything is retained", onWill(func(w *control.Will) { w.Retain = true }), []string{"will that is not retained"}},
		{"properties are lost", onWill(func(w *control.Will) { w.Properties = nil }), []string{"all will properties"}},
		{"protocol errors are ignored", &tampered{toServer: func(f wire.Frame) []byte {
			if f.Type() == wire.PUBLISH && f.Body[0] == 0 && f.Body[1] == 0 {
				return control.AppendPingreq(nil)
			}
			return nil
		}}, []string{"protocol error"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.by[0] == every {
				tt.by = nil
				for _, c := range cases {
					if len(c.wills) > 0 || c.untimed {
						tt.by = append(tt.by, c.name)
					}
				}
			}
			for _, name := range tt.by {
				noticed[name] = true
				v := inBubble(t, named(name), func(nc net.Conn) net.Conn {
					return &tampered{Conn: nc, toServer: tt.how.toServer, toClient: tt.how.toClient}
				})
				if len(v.wrong) == 0 {
					t.Errorf("%q does not detect it: %s", name, named(name).seen(v.outcome))
				} else if testing.Verbose() {
					t.Logf("%s: %s", name, v.wrong)
				}
			}
		})
	}
	for _, c := range cases {
		if !noticed[c.name] {
			t.Errorf("%q detects no faulty broker", c.name)
		}
	}
}
