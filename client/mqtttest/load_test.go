package mqtttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// taker is a subscriber that acknowledges all messages. It reconnects when its connection ends, until it
// has received want messages. It recognizes redelivered QoS 2 messages by their packet identifier.
func taker(t *testing.T, b *Broker, clientID string, want int) (payloads []string) {
	open := make(map[uint16]bool)
	for lives := 0; len(payloads) < want && lives < 1000; lives++ {
		nc := b.Dial()
		r := wire.NewReader(nc, 0)
		_, _ = nc.Write(control.AppendConnect(nil, &control.Connect{ClientID: clientID, SessionExpiry: 60, ReceiveMaximum: 8}))
		for len(payloads) < want {
			f, err := r.Next()
			if err != nil {
				break
			}
			var out []byte
			switch f.Type() {
			case wire.PUBLISH:
				v, err := wire.ParsePublish(f)
				if err != nil {
					t.Error(err)
				}
				if !open[v.PacketID] {
					payloads = append(payloads, string(v.Topic)+" "+string(v.Payload))
				}
				open[v.PacketID] = true
				out = wire.AppendAck(nil, wire.Ack{Type: wire.PUBREC, PacketID: v.PacketID})
			case wire.PUBREL:
				a, _ := wire.ParseAck(f)
				delete(open, a.PacketID)
				out = wire.AppendAck(nil, wire.Ack{Type: wire.PUBCOMP, PacketID: a.PacketID})
			}
			_, _ = nc.Write(out) // if it fails, so does the next Read
		}
		_ = nc.Close()
	}
	return payloads
}

// Publishers, subscribers and a saboteur who cuts the subscribers' connections
// all work at once: each subscriber gets each message once, and those of one
// publisher in order.
func TestLoad_OrderAndExactlyOnceDespiteCuts(t *testing.T) {
	b := Start(t)
	const publishers, each = 3, 300
	subscribers := []string{"s0", "s1"}
	for _, id := range subscribers {
		c := open(t, b.Dial())
		c.connect(control.Connect{ClientID: id, SessionExpiry: 60})
		c.subscribe(2, "t/+")
		c.send(control.AppendDisconnect(nil, &control.Disconnect{}))
		c.over(0)
	}
	var all sync.WaitGroup
	got := make([][]string, len(subscribers))
	for i, id := range subscribers {
		all.Go(func() { got[i] = taker(t, b, id, publishers*each) })
	}
	ctx, stop := context.WithCancel(t.Context())
	var saboteur sync.WaitGroup
	saboteur.Go(func() {
		for next := uint64(15); ; next += 15 {
			busy := func() bool { s := b.Stats(); return s.MessagesIn >= next && s.InFlight > 0 }
			if b.WaitFor(ctx, busy) != nil {
				return
			}
			b.Cut(subscribers[rand.IntN(len(subscribers))])
		}
	})
	for i := range publishers {
		c := open(t, dial(t, b, b.URL()))
		c.connect(control.Connect{ClientID: fmt.Sprint("p", i)})
		all.Go(func() {
			for _, payload := range seq(1, each) {
				c.publish(fmt.Sprint("t/", i), payload, 2)
			}
		})
	}
	all.Wait()
	stop()
	saboteur.Wait()
	for i, payloads := range got {
		next := make(map[string]int)
		for _, p := range payloads {
			var topic string
			var n int
			_, _ = fmt.Sscan(p, &topic, &n)
			if next[topic]++; n != next[topic] {
				t.Fatalf("%s got message %d of %s where %d was due", subscribers[i], n, topic, next[topic])
			}
		}
		if len(payloads) != publishers*each {
			t.Errorf("%s got %d messages", subscribers[i], len(payloads))
		}
	}
	if s := b.Stats(); s.Resent == 0 {
		t.Error("no message was sent again: the cuts have tested nothing")
	}
}
