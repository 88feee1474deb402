package hostile

import (
	"bytes"
	"context"
	"net"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// FuzzConnected tests arbitrary data of a server. The client has QoS 1 and 2 messages in flight, a
// subscription and a handler. With early, the data replaces CONNACK. Afterwards the server is
// silent or closes the connection. The next server behaves correctly, with or without the session.
// The test uses fake time, so a hang is a deadlock that fails at once, and so does a leaked
// goroutine. The server must always read, because a write that blocks under a lock would stop the
// clock.
func FuzzConnected(f *testing.F) {
	ack := func(t wire.Type, id uint16, reason byte) []byte {
		return wire.AppendAck(nil, wire.Ack{Type: t, PacketID: id, Reason: reason})
	}
	var all []byte
	for _, t := range []wire.Type{wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP} {
		for id := uint16(1026); id < 1030; id++ {
			all = append(all, ack(t, id, 0)...)
			f.Add(ack(t, id, 0), byte(id))
		}
	}
	f.Add(all, byte(0))
	f.Add(append(ack(wire.PUBREC, 1027, 0), ack(wire.PUBCOMP, 1027, 0)...), byte(2))
	f.Add(ack(wire.PUBACK, 1026, 0x87), byte(2))
	f.Add(control.AppendSuback(nil, &control.Suback{PacketID: 1, Reasons: []byte{2}}), byte(3))
	f.Add(control.AppendSuback(nil, &control.Suback{PacketID: 2, Reasons: []byte{0x87, 0}}), byte(0))
	f.Add(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x8E, ReasonString: "r", ServerReference: "s"}), byte(2))
	f.Add(control.AppendConnack(nil, &control.Connack{ReceiveMaximum: 1, MaximumPacketSize: 30, HasMaximumQoS: true, HasServerKeepAlive: true, AuthMethod: "m"}), byte(4))
	f.Add(control.AppendConnack(nil, &control.Connack{Reason: 0x87}), byte(4))
	for _, a := range []wire.Publish{
		{Topic: "t", QoS: 2, PacketID: 1, TopicAlias: 2, Payload: []byte("x"), User: []wire.UserProperty{{Key: "m-id", Value: "i"}, {Key: "m-seq", Value: "2"}}},
		{Topic: "t", QoS: 1, PacketID: 1, Dup: true, Retain: true},
		{TopicAlias: 2, Payload: []byte("y")},
	} {
		b := wire.AppendPublish(nil, &a)
		f.Add(append(b, ack(wire.PUBREL, 1, 0)...), byte(2))
		f.Add(append(control.AppendConnack(nil, &control.Connack{}), append(b, b...)...), byte(6))
		f.Add(b[:len(b)-1], byte(1))
	}
	f.Fuzz(func(t *testing.T, said []byte, how byte) {
		synctest.Test(t, func(t *testing.T) { connected(t, said, how&1 != 0, how&2 != 0, how&4 != 0) })
	})
}

// connected is one run. said is the data of the first server. With hangUp, that server closes the
// connection afterwards; otherwise it is silent. With present, the second server has the session.
func connected(t *testing.T, said []byte, hangUp, present, early bool) {
	store := persistence.NewMemory(persistence.Options{})
	s := newServer(t, false, func(p *peer) {
		switch {
		case early:
			p.early(string(said))
		case p.accept(control.Connack{}) && p.inFlight(1) != 0 && p.inFlight(2) != 0:
			p.send(said)
		}
		if !hangUp {
			<-p.gone
		}
	})
	defer s.close()
	first := true
	dial := func(ctx context.Context, u *url.URL) (net.Conn, error) {
		nc, err := s.dial(ctx, u)
		if first {
			first = false
			s.mu.Lock()
			s.play = func(p *peer) { // the next server behaves correctly
				p.behaves = true
				if p.accept(control.Connack{SessionPresent: present}) {
					<-p.gone
				}
			}
			s.mu.Unlock()
		}
		return nc, err
	}
	newClient := func() *client.Client {
		c, err := client.New(client.Config{Servers: []string{"mqtt://hostile"}, ClientID: "victim", Connection: client.ConnectionConfig{Dial: dial, MaximumPacketSize: 1000}, Store: client.StoreConfig{Custom: store}, Receiving: client.ReceivingConfig{ReceiveMaximum: 4, TopicAliasMaximum: 3, Concurrency: 2, QoS0QueueSize: 2}})
		if err != nil {
			t.Fatal(err)
		}
		nothing := client.HandlerFunc(func(context.Context, *client.Message) error { return nil })
		if _, err := c.Subscribe(t.Context(), "#", client.ExactlyOnce, nothing); err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := newClient()
	var list []*accepted
	for i, payload := range []string{"a", "b", "c", "d"} {
		d, err := c.Publish(t.Context(), client.Message{Topic: "t", Payload: []byte(payload), QoS: client.QoS(1 + i%2)})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, &accepted{payload, d})
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if early {
		select { // a refusal may be final; then another client continues
		case <-c.Done():
			c = newClient()
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := c.Drain(ctx); err != nil {
		t.Fatalf("Drain: %v", err)
	}
	if left := store.Stats().Pending; left != 0 {
		t.Errorf("%d messages are left", left)
	}
	answered := answers(said)
	for _, m := range list {
		o := m.d.Outcome()
		if o.State == client.Pending {
			t.Errorf("message %s has no outcome", m.payload)
		}
		if !answered && !early && (o.State != client.Acked || !s.took(m.payload)) {
			t.Errorf("message %s ended as %v, %v; the server has it: %v", m.payload, o.State, o.Err, s.took(m.payload))
		}
	}
}

// answers reports whether said contains an acknowledgement of a message.
func answers(said []byte) bool {
	for r := wire.NewReader(bytes.NewReader(said), 0); ; {
		f, err := r.Next()
		if err != nil {
			return false
		}
		switch f.Type() {
		case wire.PUBACK, wire.PUBREC, wire.PUBCOMP:
			return true
		}
	}
}
