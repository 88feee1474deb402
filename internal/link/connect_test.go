package link

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

func TestConnect_ReportsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p := <-r.peers
		p.accept(control.Connack{Reason: 0x9C, ReasonString: "moved", ServerReference: "other:1883"})
		p.gone()
		var refused *ConnackError
		if err := <-r.failures; !errors.As(err, &refused) || *refused != (ConnackError{0x9C, "moved", "other:1883"}) {
			t.Errorf("got %v", err)
		}
		if !strings.Contains(refused.Error(), "0x9C") || !strings.Contains(refused.Error(), "moved") {
			t.Errorf("message: %v", refused)
		}
		r.end()
	})
}

// The content of the store decides whether a refusal ends Run. A client that a server has accepted
// before, in this process or an earlier one, tries again.
func TestLink_StopsWhenANewClientIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		store SessionStore
		stops bool
	}{
		"an empty store":           {fakeStore{}, true},
		"of another client":        {fakeStore{true, "other"}, true},
		"used before":              {fakeStore{true, "c"}, false},
		"used before, taken over":  {fakeStore{true, OwnerTakenOver}, false},
		"of a version without one": {fakeStore{false, "c"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, func(c *Config) {
					c.Servers, c.Identity = c.Servers[:1], NewIdentity(IdentityConfig{ClientID: "c", Store: tt.store})
				})
				(<-r.peers).accept(control.Connack{Reason: 0x87})
				synctest.Wait()
				var refused *ConnackError
				select {
				case err := <-r.ended:
					if !tt.stops || !errors.As(err, &refused) || refused.Reason != 0x87 {
						t.Errorf("Run returned %v", err)
					}
				default:
					if tt.stops {
						t.Error("Run goes on")
					}
					r.end()
				}
			})
		})
	}
	// An accepting CONNACK counts, even if the client does not use its session.
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func(c *Config) {
			c.Servers, c.Identity = c.Servers[:1], NewIdentity(IdentityConfig{ClientID: "c", Store: fakeStore{}})
		})
		(<-r.peers).accept(control.Connack{SessionPresent: true})
		(<-r.peers).accept(control.Connack{Reason: 0x87})
		synctest.Wait()
		select {
		case err := <-r.ended:
			t.Errorf("Run returned %v", err)
		default:
			r.end()
		}
	})
}

func TestConnect_TimesOutWithoutConnack(t *testing.T) {
	for name, tt := range map[string]struct {
		ack, want time.Duration
	}{
		"ConnectTimeout ends it":         {20 * time.Second, 7 * time.Second},
		"AckTimeout is for requests":     {2 * time.Second, 7 * time.Second},
		"both at the same time, no race": {7 * time.Second, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				r := run(t, func(c *Config) { c.AckTimeout = tt.ack })
				p := <-r.peers
				p.next(wire.CONNECT)
				err := <-r.failures
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no CONNACK from mqtt://one:1883") {
					t.Errorf("got %v", err)
				}
				if d := time.Since(began); d != tt.want {
					t.Errorf("after %v, want %v", d, tt.want)
				}
				p.gone()
				r.end()
			})
		})
	}
}

func TestConnect_RefusesOtherPacketsBeforeConnack(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes []byte
		code  byte
	}{
		"PUBLISH":                        {wire.AppendPublish(nil, &wire.Publish{Topic: "t"}), 0x82},
		"PUBACK":                         {[]byte{0x40, 2, 0, 1}, 0x82},
		"PINGRESP":                       {[]byte{0xD0, 0}, 0x82},
		"DISCONNECT":                     {[]byte{0xE0, 0}, 0x82},
		"SUBACK":                         {[]byte{0x90, 4, 0, 1, 0, 0}, 0x82},
		"CONNECT":                        {control.AppendConnect(nil, &control.Connect{}), 0x82},
		"AUTH that we did not ask for":   {[]byte{0xF0, 6, 0x18, 4, 0x15, 0, 1, 'm'}, 0x82},
		"packet type 0":                  {[]byte{0x00, 0}, 0x81},
		"CONNACK too short":              {[]byte{0x20, 2, 0, 0}, 0x81},
		"CONNACK with flags":             {[]byte{0x20, 3, 2, 0, 0}, 0x81},
		"CONNACK with header flags":      {[]byte{0x21, 3, 0, 0, 0}, 0x81},
		"CONNACK with reason 0x01":       {[]byte{0x20, 3, 0, 1, 0}, 0x82},
		"CONNACK with bytes behind":      {[]byte{0x20, 4, 0, 0, 0, 0}, 0x81},
		"CONNACK with a property twice":  {[]byte{0x20, 9, 0, 0, 6, 0x21, 0, 1, 0x21, 0, 1}, 0x82},
		"CONNACK, Receive Maximum 0":     {[]byte{0x20, 6, 0, 0, 3, 0x21, 0, 0}, 0x82},
		"larger than the client accepts": {[]byte{0x20, 0xFF, 0x7F}, 0x95},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, func(c *Config) { maxPacketSize(c, 1000) })
				p := <-r.peers
				p.next(wire.CONNECT)
				p.send(tt.bytes)
				wantCode(t, <-r.failures, tt.code)
				p.gone() // end before CONNACK, without a DISCONNECT
				r.end()
			})
		})
	}
}

func TestConnect_ConnectionEndsBeforeConnack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p := <-r.peers
		p.next(wire.CONNECT)
		_ = p.Close()
		if err := <-r.failures; err == nil || !strings.Contains(err.Error(), "EOF") {
			t.Errorf("got %v, want EOF", err)
		}
		r.end()
	})
}

// If the store cannot void a lost session, Connect reports the store's error, not "closed".
func TestConnect_ReportsResetSessionError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("disk full")
		r := run(t, func(c *Config) {
			c.ResetSession = func() error { return full }
		})
		p := <-r.peers
		p.accept(control.Connack{})
		if err := <-r.failures; !errors.Is(err, full) {
			t.Errorf("got %v, want the store's error", err)
		}
		p.gone()
		r.end()
	})
}

func TestLink_TriesServersInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func(c *Config) {
			refuseDial(c)
			c.Policy.Retry.Backoff = reliability.Backoff{Min: time.Second, Rand: func() float64 { return 1 }}
		})
		time.Sleep(10 * time.Second)
		r.end()
		r.journal.want(t,
			"0s 1 one:1883", "0s failed 1, 0s, wait 0s", "0s 2 two:1883", "0s failed 2, 0s, wait 2s",
			"2s 3 one:1883", "2s failed 3, 0s, wait 0s", "2s 4 two:1883", "2s failed 4, 0s, wait 4s",
			"6s 5 one:1883", "6s failed 5, 0s, wait 0s", "6s 6 two:1883", "6s failed 6, 0s, wait 8s")
	})
}

func TestLink_ReportsFailingCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("no token")
		r := run(t, func(c *Config) {
			c.Credentials = func(context.Context, *url.URL) (string, []byte, error) { return "", nil, bad }
		})
		if err := <-r.failures; !errors.Is(err, bad) {
			t.Errorf("got %v", err)
		}
		r.end()
	})
}

// Run returns as soon as its context ends, whatever it is doing.
func TestRun_ReturnsWhenContextEnds(t *testing.T) {
	for name, reach := range map[string]func(t *testing.T, r *rig){
		"while dialing":         func(t *testing.T, r *rig) {},
		"while writing CONNECT": func(t *testing.T, r *rig) { <-r.peers },
		"waiting for CONNACK":   func(t *testing.T, r *rig) { (<-r.peers).next(wire.CONNECT) },
		"while up":              func(t *testing.T, r *rig) { r.up(control.Connack{}) },
		"before the next try":   func(t *testing.T, r *rig) { _ = (<-r.peers).Close(); <-r.failures },
		"after a connection":    func(t *testing.T, r *rig) { p, _ := r.up(control.Connack{}); _ = p.Close(); <-r.downs },
		"while a Send is stuck": func(t *testing.T, r *rig) { _, up := r.up(control.Connack{}); go func() { _ = up.Send(ping) }() },
		"while waiting a SUBACK": func(t *testing.T, r *rig) {
			p, up := r.up(control.Connack{})
			go subscribe(up, "a")
			p.next(wire.SUBSCRIBE)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, nil)
				reach(t, r)
				synctest.Wait()
				r.end()
			})
		})
	}
}

func ping(dst []byte) []byte { return control.AppendPingreq(dst) }

func subscribe(up *Up, filter string) error {
	return answered(up.Subscribe(&paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter}}}))
}

// answered waits for the answer to a request.
func answered(r *Request, err error) error {
	if err == nil {
		_, _, err = r.Wait(context.Background())
	}
	return err
}

func TestConnect_SendsWillProperties(t *testing.T) {
	var props []byte
	for _, p := range []wire.Property{
		{ID: wire.PropWillDelay, Int: 5}, {ID: wire.PropPayloadFormat, Int: 1}, {ID: wire.PropMessageExpiry, Int: 60},
		{ID: wire.PropContentType, Bytes: []byte("text/plain")}, {ID: wire.PropResponseTopic, Bytes: []byte("r")},
		{ID: wire.PropCorrelationData, Bytes: []byte{0, 1}}, {ID: wire.PropUser, Bytes: []byte("k"), Value: []byte(strings.Repeat("v", 200))},
		{ID: wire.PropUser, Bytes: []byte("k"), Value: []byte("2")},
	} {
		props = wire.AppendProperty(props, p)
	}
	expiry, user, password := uint32(99), "u", []byte("p")
	for _, will := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, func(c *Config) {
				c.WillProperties = props
				c.Identity = NewIdentity(IdentityConfig{ClientID: "id", CleanStart: true, Store: fakeStore{}})
				c.Connect = paho.Connect{KeepAlive: 30, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}
				if will {
					c.Connect.WillMessage = &paho.WillMessage{Topic: "w", Payload: []byte("gone"), QoS: 1, Retain: true}
					c.Connect.WillProperties = &paho.WillProperties{}
				}
				c.Credentials = func(context.Context, *url.URL) (string, []byte, error) { return user, password, nil }
			})
			c := (<-r.peers).accept(control.Connack{})
			if c.ClientID != "id" || c.KeepAlive != 30 || !c.CleanStart || c.SessionExpiry != 99 || c.Username != user || string(c.Password) != "p" {
				t.Errorf("the rest of CONNECT suffered: %+v", c)
			}
			switch w := c.Will; {
			case !will && w != nil:
				t.Errorf("a will that was not set: %+v", w)
			case !will:
			case w == nil || w.Topic != "w" || string(w.Payload) != "gone" || w.QoS != 1 || !w.Retain || w.Delay != 5 || !bytes.Equal(w.Properties, props[5:]):
				t.Errorf("will: %+v", w)
			}
			<-r.ups
			r.end()
		})
	}
}

func TestConnect_AppliesConnackProperties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, nil)
		p, up := r.up(control.Connack{})
		all := session.Limits{ReceiveMaximum: 65_535, MaximumPacketSize: wire.MaxPacketSize, MaximumQoS: 2, RetainAvailable: true, WildcardAvailable: true, SubIDAvailable: true, SharedAvailable: true}
		if up.Gen.Limits != all || up.Gen.Present || up.KeepAlive != 0 {
			t.Errorf("absent: %+v", up.Gen.Limits)
		}
		_ = p.Close()
		<-r.downs
		r.end()

		r = run(t, nil)
		_, up = r.up(control.Connack{SessionPresent: true, ReceiveMaximum: 3, HasMaximumQoS: true, MaximumQoS: 1, MaximumPacketSize: 500, TopicAliasMaximum: 7,
			RetainUnavailable: true, WildcardUnavailable: true, SubIDUnavailable: true, SharedUnavailable: true,
			AssignedClientID: "not asked for", HasSessionExpiry: true, SessionExpiry: 5, HasServerKeepAlive: true, ServerKeepAlive: 17})
		want := session.Limits{ReceiveMaximum: 3, MaximumQoS: 1, MaximumPacketSize: 500, TopicAliasMaximum: 7}
		if up.Gen.Limits != want || !up.Gen.Present || up.KeepAlive != 17*time.Second || r.link.cfg.Identity.ClientID() != "c" || up.SessionExpiry != 5*time.Second {
			t.Errorf("present: %+v, keep alive %v, client %q, expiry %v", up.Gen.Limits, up.KeepAlive, r.link.cfg.Identity.ClientID(), up.SessionExpiry)
		}
		r.end()

		r = run(t, nil) // more than the packet size limit, and more than a 32-bit int holds
		if _, up = r.up(control.Connack{MaximumPacketSize: 1<<32 - 1}); up.Gen.Limits.MaximumPacketSize != wire.MaxPacketSize {
			t.Errorf("the Maximum Packet Size is %d", up.Gen.Limits.MaximumPacketSize)
		}
		r.end()
	})
}

// The lowest reason code that refuses is 0x80. A refusal that ends Run is not reported as a failed
// attempt.
func TestLink_RefusalsBeginAt0x80(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, func(c *Config) { c.Policy.StopOn, c.Servers = StopAlways, c.Servers[:1] })
		(<-r.peers).accept(control.Connack{Reason: 0x80})
		var refused *ConnackError
		if err := <-r.failures; !errors.As(err, &refused) || refused.Reason != 0x80 {
			t.Errorf("the attempt failed with %v", err)
		}
		(<-r.peers).accept(control.Connack{Reason: 0x84})
		if err := <-r.ended; !errors.As(err, &refused) || refused.Reason != 0x84 {
			t.Errorf("Run returned %v", err)
		}
		if len(r.failures) > 0 {
			t.Errorf("reported as failed: %v", <-r.failures)
		}
	})
}

func maxPacketSize(c *Config, n uint32) { c.Connect.Properties.MaximumPacketSize = &n }
