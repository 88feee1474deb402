package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// request passes a SUBSCRIBE to the session as paho does.
func (r *rig) request() (*packets.Subscribe, chan packets.ControlPacket, error) {
	p, resp := &packets.Subscribe{}, make(chan packets.ControlPacket, 1)
	m := r.s.Manager(func(*packets.Connack) error { return nil })
	r.must(m.ConAckReceived(nil, nil, nil))
	return p, resp, m.AddToSession(context.Background(), p, resp)
}

func (r *rig) suback(id uint16) {
	r.t.Helper()
	p := packets.NewControlPacket(packets.SUBACK)
	p.Content.(*packets.Suback).PacketID = id
	m := r.s.Manager(func(*packets.Connack) error { return nil })
	r.must(m.ConAckReceived(nil, nil, nil))
	r.must(m.PacketReceived(p, nil))
}

func TestRequests_AreAnswered(t *testing.T) {
	r := newRig(t, Config{})
	if _, _, err := r.request(); !errors.Is(err, ErrNotConnected) {
		t.Errorf("without a connection: %v", err)
	}
	r.connect(false, Limits{})
	p1, resp1, err := r.request()
	r.must(err)
	p2, resp2, err := r.request()
	r.must(err)
	if p1.PacketID == p2.PacketID || p1.PacketID == 0 || p1.PacketID >= lowest {
		t.Fatalf("identifiers %d and %d", p1.PacketID, p2.PacketID)
	}
	r.suback(p2.PacketID)
	if got := <-resp2; got.PacketID() != p2.PacketID {
		t.Errorf("answered with %v", got)
	}
	if len(resp1) != 0 {
		t.Error("the other request was answered too")
	}
	if r.w.failed != nil {
		t.Fatal(r.w.failed)
	}
	r.suback(p2.PacketID) // no request waits for it
	if bad := (*wire.Error)(nil); r.s.Stats().UnknownAcks != 1 || !errors.As(r.w.failed, &bad) || bad.Packet != wire.SUBACK {
		t.Errorf("stats %+v, the connection ended with %v", r.s.Stats(), r.w.failed)
	}
	r.s.Detach(r.g)
	if got := <-resp1; got.Type != 0 {
		t.Errorf("got %v after the loss, want the zero packet", got)
	}
	r.s.Detach(r.g) // a second call has no effect
	if len(resp1)+len(resp2) != 0 {
		t.Error("answered twice")
	}
}

func TestLowIDs_SharedByRequestsAndUnstored(t *testing.T) {
	r := newRig(t, Config{})
	r.connect(false, Limits{})
	used := map[uint16]bool{}
	var outcomes []string
	for i := range lowest - 1 {
		var id uint16
		if i%2 == 0 {
			p, _, err := r.request()
			r.must(err)
			id = p.PacketID
		} else {
			r.must(r.unstored(fmt.Sprint(i), &outcomes))
			id = r.sent()[0].PacketID
		}
		if used[id] || id == 0 || id >= lowest {
			t.Fatalf("identifier %d given twice, or out of range", id)
		}
		used[id] = true
	}
	if _, _, err := r.request(); !errors.Is(err, ErrIDsInUse) {
		t.Errorf("got %v, want ErrIDsInUse", err)
	}
	r.connect(true, Limits{}) // requests end with the connection, but unstored messages do not
	for range (lowest - 1) / 2 {
		p, _, err := r.request()
		r.must(err)
		if slices.ContainsFunc(r.s.unstored, func(d *unstored) bool { return d.id == p.PacketID }) {
			t.Fatalf("identifier %d is that of a unstored message", p.PacketID)
		}
	}
	if _, _, err := r.request(); !errors.Is(err, ErrIDsInUse) {
		t.Errorf("got %v, want ErrIDsInUse", err)
	}
}

// A late SUBSCRIBE from the paho client of an ended connection is not sent on the next connection.
func TestRequests_OfAnOlderConnectionAreRefused(t *testing.T) {
	r := newRig(t, Config{})
	g := r.connect(false, Limits{})
	old := r.s.Manager(func(*packets.Connack) error { return nil })
	r.must(old.ConAckReceived(nil, nil, nil))
	r.s.Detach(g)
	r.connect(false, Limits{})
	if err := old.AddToSession(t.Context(), &packets.Subscribe{}, make(chan packets.ControlPacket, 1)); !errors.Is(err, ErrNotConnected) {
		t.Errorf("got %v", err)
	}
}

func TestManager_PassesConnackOn(t *testing.T) {
	r := newRig(t, Config{})
	bad := errors.New("bad")
	if err := r.s.Manager(func(*packets.Connack) error { return bad }).ConAckReceived(nil, nil, nil); err != bad {
		t.Errorf("got %v", err)
	}
	m := r.s.Manager(nil)
	m.SetErrorLogger(nil)
	m.SetDebugLogger(nil)
	if m.ConnectionLost(nil) != nil || m.Ack(nil) != nil || m.Close() != nil {
		t.Error("what the session does itself must not fail in paho's name")
	}
}
