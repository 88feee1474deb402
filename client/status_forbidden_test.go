package client_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// forbidding is a server that keeps sessions, acknowledges accepted messages, and forbids one topic while
// the test requires it.
type forbidding struct {
	*fakebroker.Broker
	answer func(c *fakebroker.Conn, id uint16) // to a message on the forbidden topic

	mu       sync.Mutex
	allowed  bool
	accepted map[string]int // by payload
	statuses []string       // accepted on the status topic
	tries    []time.Time    // of the status topic
	final    byte           // reason code of the last DISCONNECT
}

func (f *forbidding) allow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allowed = true
}

// run serves the connections, one after the other.
func (f *forbidding) run() {
	for present := false; ; present = true {
		conn, ok := f.Take()
		if !ok {
			return
		}
		f.serve(conn, present)
		conn.Close()
	}
}

func (f *forbidding) serve(conn *fakebroker.Conn, present bool) {
	for {
		p, ok := conn.Packet()
		if !ok {
			return
		}
		switch p.Type() {
		case wire.CONNECT:
			conn.Connack(control.Connack{SessionPresent: present})
		case wire.PUBLISH:
			v, err := wire.ParsePublish(p)
			if err != nil {
				panic(err)
			}
			f.mu.Lock()
			forbidden := string(v.Topic) == "status" && !f.allowed
			if string(v.Topic) == "status" {
				f.tries = append(f.tries, time.Now())
			}
			if !forbidden {
				f.accepted[string(v.Payload)]++
				if string(v.Topic) == "status" {
					f.statuses = append(f.statuses, string(v.Payload))
				}
			}
			f.mu.Unlock()
			if forbidden {
				f.answer(conn, v.PacketID)
				continue
			}
			switch v.QoS {
			case 1:
				conn.Ack(wire.PUBACK, v.PacketID, 0)
			case 2:
				conn.Ack(wire.PUBREC, v.PacketID, 0)
			}
		case wire.PUBREL:
			a, _ := wire.ParseAck(p)
			conn.Ack(wire.PUBCOMP, a.PacketID, 0)
		case wire.PINGREQ:
			conn.Pingresp()
		case wire.DISCONNECT:
			if d, err := control.ParseDisconnect(p); err == nil {
				f.mu.Lock()
				f.final = d.Reason
				f.mu.Unlock()
			}
		}
	}
}

var forbiddenAnswers = map[string]struct {
	answer func(c *fakebroker.Conn, id uint16)
	closes bool
	limit  time.Duration // of the stored messages
}{
	"PUBACK 0x87": {func(c *fakebroker.Conn, id uint16) { c.Ack(wire.PUBACK, id, 0x87) }, false, time.Second},
	"PUBACK 0x90": {func(c *fakebroker.Conn, id uint16) { c.Ack(wire.PUBACK, id, 0x90) }, false, time.Second},
	"PUBACK 0x80": {func(c *fakebroker.Conn, id uint16) { c.Ack(wire.PUBACK, id, 0x80) }, false, time.Second},
	"DISCONNECT 0x87": {func(c *fakebroker.Conn, _ uint16) {
		c.Disconnect(control.Disconnect{Reason: 0x87})
		c.Close()
	}, true, time.Minute},
	"DISCONNECT 0x83": {func(c *fakebroker.Conn, _ uint16) {
		c.Disconnect(control.Disconnect{Reason: 0x83})
		c.Close()
	}, true, time.Minute},
	"DISCONNECT 0x97": {func(c *fakebroker.Conn, _ uint16) {
		c.Disconnect(control.Disconnect{Reason: 0x97})
		c.Close()
	}, true, 5 * time.Minute}, // it asks for long delays
	"silent close": {func(c *fakebroker.Conn, _ uint16) { c.Close() }, true, time.Minute},
}

func withForbidding(t *testing.T, answer func(*fakebroker.Conn, uint16), set func(*client.Config), test func(t *testing.T, f *forbidding, c *client.Client, events *recorder)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &forbidding{Broker: fakebroker.New(t), answer: answer, accepted: map[string]int{}}
		var events recorder
		cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", OnEvent: events.add,
			Connection: client.ConnectionConfig{Dial: f.Dial},
			Presence:   client.PresenceConfig{Status: &client.Status{Topic: "status", NoCorrection: true}}}
		set(&cfg)
		c, err := client.New(cfg)
		must(t, err)
		go f.run()
		test(t, f, c, &events)
		must(t, c.Close())
	})
}

// The server forbids the status topic in one of several ways. Stored messages are still sent, the refusal
// is reported, and the status is published when the server allows it.
func TestStatus_ForbiddenTopicDoesNotBlockMessages(t *testing.T) {
	for name, tt := range forbiddenAnswers {
		for _, structured := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " structured ", structured), func(t *testing.T) {
				set := func(cfg *client.Config) { cfg.Presence.Status.Structured = structured }
				withForbidding(t, tt.answer, set, func(t *testing.T, f *forbidding, c *client.Client, events *recorder) {
					var all []*client.Delivery
					for n := range 100 {
						all = append(all, publish(t, c, fmt.Sprint("t/", n%5), fmt.Sprint(n), client.QoS(1+n%2)))
					}
					began := time.Now()
					start(t, c)
					for _, d := range all {
						wantState(t, d, client.Acked)
					}
					if took := time.Since(began); took > tt.limit {
						t.Errorf("the messages took %v", took)
					}
					wantAccounts(t, c)
					time.Sleep(30 * time.Minute)
					f.mu.Lock()
					if n := len(f.tries); n < 10 || n > 60 {
						t.Errorf("the status was tried %d times in half an hour", n)
					}
					f.mu.Unlock()
					failed := eventsOf[client.StatusFailed](events)
					var deferred *client.StatusDeferredError
					if len(failed) == 0 || uint64(len(failed)) != c.Stats().Status.Failed || errors.As(failed[len(failed)-1].Err, &deferred) != tt.closes {
						t.Errorf("%d StatusFailed events, %+v, the last is %v", len(failed), c.Stats().Status, failed[max(0, len(failed)-1):])
					}
					f.allow()
					time.Sleep(6 * time.Minute)
					f.mu.Lock()
					defer f.mu.Unlock()
					if len(f.statuses) != 1 {
						t.Errorf("%q are accepted on the status topic, want one birth", f.statuses)
					}
				})
			})
		}
	}
}

// Messages that are published all the time go out although the status topic ends connections.
func TestStatus_ForbiddenTopicWithTraffic(t *testing.T) {
	tt := forbiddenAnswers["silent close"]
	withForbidding(t, tt.answer, func(*client.Config) {}, func(t *testing.T, f *forbidding, c *client.Client, events *recorder) {
		start(t, c)
		var all []*client.Delivery
		for n := range 600 {
			all = append(all, publish(t, c, fmt.Sprint("t/", n%5), fmt.Sprint(n), client.QoS(1+n%2)))
			time.Sleep(time.Second)
		}
		for _, d := range all {
			wantState(t, d, client.Acked)
		}
		f.mu.Lock()
		for n := range all {
			if got := f.accepted[fmt.Sprint(n)]; got != 1 && n > 60 {
				t.Errorf("message %d arrived %d times: it was in flight beside the status", n, got)
			}
		}
		f.mu.Unlock()
		if n := c.Stats().Connections; n > 20 {
			t.Errorf("%d connections in ten minutes", n)
		}
		f.allow()
		time.Sleep(6 * time.Minute)
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.statuses) != 1 {
			t.Errorf("%q are accepted on the status topic, want one birth", f.statuses)
		}
	})
}

// The offline status of Close does not wait for a server that forbids the topic; the will stands in.
func TestStatus_ForbiddenTopicAtClose(t *testing.T) {
	for name, tt := range forbiddenAnswers {
		for _, after := range []time.Duration{0, time.Second, time.Minute, 10 * time.Minute} {
			t.Run(fmt.Sprint(name, " after ", after), func(t *testing.T) {
				withForbidding(t, tt.answer, func(*client.Config) {}, func(t *testing.T, f *forbidding, c *client.Client, _ *recorder) {
					start(t, c)
					time.Sleep(after)
					connected, began := c.Connected(), time.Now()
					must(t, c.Close())
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("Close took %v", took)
					}
					synctest.Wait()
					f.mu.Lock()
					defer f.mu.Unlock()
					if after == 10*time.Minute && connected && f.final != wire.ReasonDisconnectWithWill {
						t.Errorf("the final DISCONNECT has 0x%02X, want 0x04", f.final)
					}
				})
			})
		}
	}
}
