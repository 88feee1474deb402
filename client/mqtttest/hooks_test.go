package mqtttest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func TestAuthorize_LimitsQoS(t *testing.T) {
	for reason, granted := range map[byte]byte{0: 2, 1: 1, 2: 2, 3: 2, 4: 2, 0x10: 2, 0x7F: 2, 0x80: 0x80, 0x87: 0x87, 0x97: 0x97} {
		t.Run(fmt.Sprintf("0x%02X", reason), func(t *testing.T) {
			o := Options{Authorize: func(_ context.Context, _, _ string, write bool) byte {
				if write {
					return 0
				}
				return reason
			}}
			inBubble(t, o, func(t *testing.T, b *Broker) {
				c, p := fresh(t, b, "c"), fresh(t, b, "p")
				got := c.subscribeWith(control.Subscribe{Subscriptions: []control.Subscription{{Filter: "t", QoS: 2}, {Filter: "u", QoS: 0}}})
				want := []byte{granted, 0}
				if granted >= 0x80 {
					want = []byte{granted, granted}
				}
				if !bytes.Equal(got, want) {
					t.Errorf("SUBACK has % x, want % x", got, want)
				}
				p.publish("t", "x", 2)
				if granted >= 0x80 {
					c.quiet()
				} else if m := c.receive(); m.QoS != granted {
					t.Errorf("the message came with QoS %d", m.QoS)
				}
			})
		})
	}
}

func TestAuthorize_AllowsPublishesWithCodesBelow0x80(t *testing.T) {
	o := Options{Authorize: func(context.Context, string, string, bool) byte { return 1 }}
	inBubble(t, o, func(t *testing.T, b *Broker) {
		c := join(t, b, control.Connect{ClientID: "c", Will: &control.Will{Topic: "w"}})
		c.subscribe(1, "t")
		c.publish("t", "x", 1)
		c.receive()
	})
}

func TestAuthenticate_MapsReasonCodes(t *testing.T) {
	for reason, want := range map[byte]byte{1: 0x80, 4: 0x86, 5: 0x87, 0x7F: 0x80, 0x88: 0x88} {
		o := Options{Authenticate: func(context.Context, string, string, []byte) byte { return reason }}
		inBubble(t, o, func(t *testing.T, b *Broker) {
			c := open(t, b.Dial())
			c.connect(control.Connect{ClientID: "c"})
			if c.ack.Reason != want {
				t.Errorf("0x%02X became 0x%02X, want 0x%02X", reason, c.ack.Reason, want)
			}
		})
	}
}

// A full set was scanned for each refusal: 20,000 refusals took half a minute.
func TestRetain_FullSetRefusesWithoutScan(t *testing.T) {
	b := Start(t, func(o *Options) { o.NoTCP = true })
	b.lock()
	defer b.unlock()
	hour := time.Now().Add(time.Hour)
	for i := range b.opts.MaxRetained {
		m := &message{topic: fmt.Sprint(i), payload: []byte("x")}
		if i%2 == 0 {
			m.expires = hour
		}
		if !b.retain(m) {
			t.Fatalf("only %d messages have room", i)
		}
	}
	start := time.Now()
	for i := range 20_000 {
		// One that has expired is replaced, so that nothing can be concluded from what was there once.
		b.retain(&message{topic: "0", payload: []byte("x"), expires: start})
		b.retain(&message{topic: "0", payload: []byte("x")})
		if b.retain(&message{topic: "more", payload: []byte{byte(i)}}) {
			t.Fatal("there was room for one more")
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("20,000 refusals took %v", took)
	}
}

func TestRetain_ExpiredMessagesFreeSpace(t *testing.T) {
	inBubble(t, Options{MaxRetained: 3}, func(t *testing.T, b *Broker) {
		put := func(topic string, seconds int, want bool) {
			t.Helper()
			b.lock()
			defer b.unlock()
			m := &message{topic: topic, payload: []byte("x")}
			if seconds > 0 {
				m.expires = time.Now().Add(time.Duration(seconds) * time.Second)
			}
			if b.retain(m) != want {
				t.Errorf("%s: room is %v", topic, !want)
			}
		}
		put("a", 30, true)
		put("b", 10, true)
		put("c", 0, true)
		put("d", 0, false)
		put("b", 0, true) // never expires now
		put("a", 20, true)
		time.Sleep(15 * time.Second)
		put("d", 0, false)
		time.Sleep(5 * time.Second)
		put("d", 5, true)
		put("e", 0, false)
		b.lock()
		b.retain(&message{topic: "c"})
		b.unlock()
		put("e", 0, true)
		time.Sleep(5 * time.Second)
		put("f", 0, true)
		put("g", 0, false)
	})
}

func TestCut_InHookKeepsEarlierPackets(t *testing.T) {
	for _, network := range []string{"pipe", "TCP"} {
		for _, dir := range []Direction{ToClient, ToServer} {
			t.Run(network+" "+dir.String(), func(t *testing.T) { testCutInAHook(t, network == "TCP", dir) })
		}
	}
}

func testCutInAHook(t *testing.T, tcp bool, dir Direction) {
	var b *Broker
	seen := 0
	b = Start(t, func(o *Options) {
		o.NoTCP = !tcp
		o.OnPacket = func(_ context.Context, d Direction, clientID string, packet []byte) {
			want := PUBLISH
			if dir == ToClient {
				want = PUBACK
			}
			if d == dir && PacketType(packet[0]>>4) == want {
				if seen++; seen == 3 && !b.Cut(clientID) {
					t.Error("the client is not connected")
				}
			}
		}
	})
	c := open(t, enter(t, b))
	c.connect(control.Connect{ClientID: "c"})
	var burst []byte
	for id := range uint16(5) {
		burst = wire.AppendPublish(burst, &wire.Publish{Topic: "t", QoS: 1, PacketID: id + 1, Retain: true, Payload: []byte{byte(id + 1)}})
	}
	_, _ = c.nc.Write(burst) // a pipe is closed before it has taken all
	c.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
	c.expect(wire.PUBACK, 2, wire.ReasonNoMatchingSubscribers)
	c.over(0)
	payload, _ := b.Retained("t")
	if dir == ToServer && !bytes.Equal(payload, []byte{2}) {
		t.Errorf("the last message that was acted on is %d, want 2", payload)
	}
}

// enter connects to b, by TCP if it listens.
func enter(t *testing.T, b *Broker) net.Conn {
	if b.Addr() == "" {
		return b.Dial()
	}
	return dial(t, b, b.URL())
}

// hooksThat are options whose hook of the name does what do does.
func hooksThat(name string, do func(ctx context.Context)) (o Options) {
	switch name {
	case "Authenticate":
		o.Authenticate = func(ctx context.Context, _, _ string, _ []byte) byte { do(ctx); return 0 }
	case "Authorize":
		o.Authorize = func(ctx context.Context, _, _ string, _ bool) byte { do(ctx); return 0 }
	case "OnPacket to server", "OnPacket to client":
		o.OnPacket = func(ctx context.Context, dir Direction, _ string, packet []byte) {
			if t := PacketType(packet[0] >> 4); strings.HasSuffix(name, dir.String()) && (t == PUBLISH || t == PUBACK) {
				do(ctx)
			}
		}
	}
	return o
}

var hookNames = []string{"Authenticate", "Authorize", "OnPacket to server", "OnPacket to client"}

// useHooks makes the broker call all hooks.
func useHooks(t *testing.T, b *Broker) {
	c := open(t, b.Dial())
	c.send(control.AppendConnect(nil, &control.Connect{ClientID: "c", CleanStart: true, SessionExpiry: 60}))
	go func() { _, _ = c.nc.Write(wire.AppendPublish(nil, &wire.Publish{Topic: "t", QoS: 1, PacketID: 1})) }()
}

func TestClose_EndsContextOfBlockedHook(t *testing.T) {
	for _, name := range hookNames {
		for _, how := range []string{"Close", "Kill", "Cut", "Disconnect", "DropSession"} {
			if name == "Authenticate" && how != "Close" && how != "Kill" {
				continue // nobody is connected yet
			}
			t.Run(name+" "+how, func(t *testing.T) {
				ended := make(chan struct{})
				inBubble(t, hooksThat(name, func(ctx context.Context) {
					<-ctx.Done()
					close(ended)
				}), func(t *testing.T, b *Broker) {
					useHooks(t, b)
					synctest.Wait()
					start := time.Now()
					switch how {
					case "Close":
						if err := b.Close(); err != nil {
							t.Error(err)
						}
					case "Kill":
						b.Kill()
					case "Cut":
						b.Cut("c")
					case "Disconnect":
						b.Disconnect("c", 0x98)
					case "DropSession":
						b.DropSession("c")
					}
					if name != "OnPacket to client" || how != "Disconnect" { // accepted packets are sent before DISCONNECT
						<-ended
					}
					if took := time.Since(start); took > 0 {
						t.Errorf("it took %v", took)
					}
				})
			})
		}
	}
}

func TestClose_NamesHookThatIgnoresItsContext(t *testing.T) {
	for _, name := range hookNames {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				o := hooksThat(name, func(context.Context) { <-release })
				o.NoTCP, o.Dir = true, t.TempDir()
				b, err := New(o)
				if err != nil {
					t.Fatal(err)
				}
				useHooks(t, b)
				synctest.Wait()
				start := time.Now()
				for range 2 {
					hook, _, _ := strings.Cut(name, " ")
					if err := b.Close(); err == nil || !strings.Contains(err.Error(), " Options."+hook) || !strings.Contains(err.Error(), `"c"`) {
						t.Errorf("Close returned %v", err)
					}
				}
				if took := time.Since(start); took != hookLimit {
					t.Errorf("it took %v", took)
				}
				close(release)
			})
		})
	}
}

func TestClose_InHookDoesNotWait(t *testing.T) {
	for _, name := range hookNames {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s kill=%v", name, kill), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var b *Broker
					var took atomic.Int64
					o := hooksThat(name, func(context.Context) {
						start := time.Now()
						if kill {
							b.Kill()
						} else if err := b.Close(); err != nil {
							t.Error(err)
						}
						took.Add(int64(time.Since(start)))
					})
					o.NoTCP = true
					b = Start(t, With(o))
					useHooks(t, b)
					<-b.done
					if err := b.Close(); err != nil {
						t.Error(err)
					}
					if took.Load() != 0 {
						t.Errorf("it took %v", time.Duration(took.Load()))
					}
				})
			})
		}
	}
}

func TestProxyClose_EndsWhileHookBlocks(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		release := make(chan struct{})
		p := NewPipeProxy(func(context.Context) (net.Conn, error) { return b.Dial(), nil })
		p.OnPacket(func(Direction, byte, []byte) Action { <-release; return ActionPass })
		nc, err := p.Dial()
		if err != nil {
			t.Fatal(err)
		}
		open(t, nc).send(control.AppendConnect(nil, &control.Connect{ClientID: "c"}))
		synctest.Wait()
		start := time.Now()
		if err := p.Close(); err == nil || !strings.Contains(err.Error(), "hook") {
			t.Errorf("Close returned %v", err)
		}
		if took := time.Since(start); took != hookLimit {
			t.Errorf("it took %v", took)
		}
		close(release)
		if err := p.Close(); err != nil {
			t.Errorf("the second Close returned %v", err)
		}
	})
}

func TestProxyCut_InHookKeepsEarlierPackets(t *testing.T) {
	for _, dir := range []Direction{ToServer, ToClient} {
		t.Run(dir.String(), func(t *testing.T) {
			b := Start(t)
			p := StartProxy(t, b.URL())
			seen := 0
			p.OnPacket(func(d Direction, header byte, _ []byte) Action {
				if typ := PacketType(header >> 4); d == dir && (typ == PUBLISH || typ == PUBACK) {
					if seen++; seen == 3 {
						p.Cut()
					}
				}
				return ActionPass
			})
			c := open(t, dial(t, b, p.URL()))
			c.connect(control.Connect{ClientID: "c"})
			var burst []byte
			for id := range uint16(5) {
				burst = wire.AppendPublish(burst, &wire.Publish{Topic: "t", QoS: 1, PacketID: id + 1, Retain: true, Payload: []byte{byte(id + 1)}})
			}
			c.send(burst)
			if dir == ToClient {
				c.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
				c.expect(wire.PUBACK, 2, wire.ReasonNoMatchingSubscribers)
				c.over(0)
			} else if err := b.WaitFor(t.Context(), func() bool { return b.Stats().ConnectionsTotal == 1 && !b.Connected("c") }); err != nil {
				t.Fatal(err)
			}
			if payload, _ := b.Retained("t"); dir == ToServer && !bytes.Equal(payload, []byte{2}) {
				t.Errorf("the last message that came is %d, want 2", payload)
			}
			for end := time.Now().Add(10 * time.Second); p.Stats().Cuts != 1; time.Sleep(time.Millisecond) { // it is counted after the cut
				if time.Now().After(end) {
					t.Fatalf("%+v", p.Stats())
				}
			}
		})
	}
}

func TestProxyClose_InHookDoesNotWait(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, b *Broker) {
		p := NewPipeProxy(func(context.Context) (net.Conn, error) { return b.Dial(), nil })
		start := time.Now()
		p.OnPacket(func(Direction, byte, []byte) Action {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			return ActionPass
		})
		nc, err := p.Dial()
		if err != nil {
			t.Fatal(err)
		}
		c := open(t, nc)
		c.send(control.AppendConnect(nil, &control.Connect{ClientID: "c"}))
		c.over(0)
		if err := p.Close(); err != nil || time.Since(start) != 0 {
			t.Errorf("Close returned %v after %v", err, time.Since(start))
		}
	})
}

func TestEdit_BlocksAndCutsLikeHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, err := New(Options{NoTCP: true})
		if err != nil {
			t.Fatal(err)
		}
		c := fresh(t, b, "c")
		b.Next("c", PINGRESP).Edit(func(*Packet) { b.Cut("c") })
		c.put(wire.Publish{Topic: "t", QoS: 1, PacketID: 1})
		c.send(control.AppendPingreq(nil))
		c.expect(wire.PUBACK, 1, wire.ReasonNoMatchingSubscribers)
		c.over(0)

		release := make(chan struct{})
		c = fresh(t, b, "c")
		b.Next("c", PINGRESP).Edit(func(*Packet) { <-release })
		c.send(control.AppendPingreq(nil))
		synctest.Wait()
		if err := b.Close(); err == nil || !strings.Contains(err.Error(), "Edit") {
			t.Errorf("Close returned %v", err)
		}
		close(release)
	})
}
