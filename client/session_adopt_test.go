package client_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
)

// adopting is a server whose session the client does not know, until its store does.
type adopting struct {
	t      *testing.T
	s      *script
	cfg    client.Config
	events recorder
	got    chan string
}

func newAdopting(t *testing.T, s *script, store persistence.Store) *adopting {
	a := &adopting{t: t, s: s, got: make(chan string, 100)}
	a.cfg = testConfig("c", &a.events, s.dial)
	a.cfg.Store.Custom = store
	return a
}

// start starts a client that receives everything.
func (a *adopting) start() *client.Client {
	a.t.Helper()
	c := mustNew(a.t, a.cfg)
	must(a.t, c.Handle("#", client.HandlerFunc(func(_ context.Context, m *client.Message) error {
		a.got <- string(m.Payload)
		return nil
	})))
	start(a.t, c)
	return c
}

// unknown takes the first connection, which the client must close at once.
func (a *adopting) unknown() {
	a.t.Helper()
	p := a.s.accept(control.Connack{SessionPresent: true})
	if f := p.ended(); f.Raw != nil || p.connect.CleanStart {
		a.t.Errorf("%v was sent in a session that the store does not know, Clean Start %v", f.Type(), p.connect.CleanStart)
	}
}

// resumed takes a connection that resumes the session.
func (a *adopting) resumed() *peer {
	a.t.Helper()
	p := a.s.accept(control.Connack{SessionPresent: true})
	if p.connect.CleanStart {
		a.t.Fatal("Clean Start is 1")
	}
	return p
}

// purge answers PUBRELs until there were this many, and so many other packets at least, or the client
// publishes.
func (p *peer) purge(most, least int) (purged map[uint16]bool, others []wire.Frame) {
	p.t.Helper()
	purged = map[uint16]bool{}
	for len(purged) < most || len(others) < least {
		synctest.Wait()
		f, ok := <-p.got
		if !ok {
			p.t.Fatal("the connection ended")
		}
		if f.Type() != wire.PUBREL {
			others = append(others, f)
			if f.Type() == wire.PUBLISH {
				break
			}
			continue
		}
		a, err := wire.ParseAck(f)
		must(p.t, err)
		if purged[a.PacketID] {
			p.t.Fatalf("identifier %d is purged twice", a.PacketID)
		}
		purged[a.PacketID] = true
		p.ack(wire.PUBCOMP, a.PacketID, wire.ReasonPacketIDNotFound, "")
	}
	return purged, others
}

// everyID is the number of packet identifiers.
const everyID = 65_535

// TestSessionAdopted_ReceivesAndPurges: what waits in a session that the store does not know is received,
// exchanges that others have left half finished end, and nothing is published before all packet identifiers
// are free. The client is killed twice before that.
func TestSessionAdopted_ReceivesAndPurges(t *testing.T) {
	type hidden struct{ persistence.Store } // a custom store, which has nothing but the interface
	for name, wrap := range map[string]func(m *persistence.Memory) persistence.Store{
		"log":          func(m *persistence.Memory) persistence.Store { return m },
		"custom store": func(m *persistence.Memory) persistence.Store { return hidden{m} },
	} {
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				store := persistence.NewMemory(persistence.Options{})
				a := newAdopting(t, s, wrap(store))
				restart := func(c *client.Client) *client.Client {
					client.Abort(c, errors.New("killed"))
					<-c.Done()
					store = store.Reopen()
					a.cfg.Store.Custom = wrap(store)
					return a.start()
				}
				c := a.start()
				a.unknown()
				synctest.Wait()
				if n := len(eventsOf[client.SessionAdopted](&a.events)); n != 1 {
					t.Errorf("%d events", n)
				}
				a.s.open()
				c = restart(c) // before it has connected again
				publish(t, c, "t", "x", client.ExactlyOnce)
				p := a.resumed()
				p.publish(wire.Publish{Topic: "w", QoS: 2, PacketID: 7, Dup: true, Payload: []byte("waits")})
				p.ack(wire.PUBREL, 9, 0, "")
				if got := <-a.got; got != "waits" {
					t.Errorf("received %q", got)
				}
				_, others := p.purge(100, 2)
				var acks []string
				for _, f := range others {
					ack, err := wire.ParseAck(f)
					must(t, err)
					acks = append(acks, ack.Type.String())
				}
				if slices.Sort(acks); !slices.Equal(acks, []string{"PUBCOMP", "PUBREC"}) {
					t.Errorf("got %v beside the purge", acks)
				}
				for range 2 {
					c = restart(c)
					p = a.resumed()
					p.ack(wire.PUBREL, 7, 0, "")
					if _, others = p.purge(30_000, 1); len(others) != 1 || others[0].Type() != wire.PUBCOMP {
						t.Errorf("got %v beside the purge", others)
					}
				}
				c = restart(c)
				p = a.resumed()
				purged, others := p.purge(everyID+1, 1)
				v, err := wire.ParsePublish(others[0])
				must(t, err)
				if len(purged) != everyID || v.Dup || string(v.Payload) != "x" {
					t.Errorf("%q was published under %d, DUP %v, after %d identifiers were purged", v.Payload, v.PacketID, v.Dup, len(purged))
				}
				p.ack(wire.PUBREC, v.PacketID, 0, "")
				p.nextAck(wire.PUBREL)
				c = restart(c) // from here on the session is like any other
				p = a.resumed()
				p.ack(wire.PUBCOMP, p.nextAck(wire.PUBREL).PacketID, 0, "")
				publish(t, c, "t", "y", client.ExactlyOnce)
				if got := p.nextPublish(); string(got.Payload) != "y" {
					t.Errorf("published %q", got.Payload)
				}
				must(t, c.Close())
				if n := len(eventsOf[client.SessionAdopted](&a.events)); n != 1 || len(a.got) > 0 {
					t.Errorf("%d events, received %d more", n, len(a.got))
				}
			})
		})
	}
}

// TestSessionAdopted_PurgesOnceWithoutMessages: a client that only receives purges in the process that adopts
// the session, and not at each start.
func TestSessionAdopted_PurgesOnceWithoutMessages(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := persistence.NewMemory(persistence.Options{})
		a := newAdopting(t, s, store)
		c := a.start()
		a.unknown()
		a.resumed().purge(everyID, 0)
		must(t, c.Close())
		a.cfg.Store.Custom = store.Reopen()
		c = a.start()
		p := a.resumed()
		p.quiet()
		publish(t, c, "t", "x", client.ExactlyOnce)
		if purged, others := p.purge(everyID+1, 1); len(purged) != everyID || others[0].Type() != wire.PUBLISH {
			t.Errorf("%d were purged", len(purged))
		}
		must(t, c.Close())
	})
}

// TestSessionAdopted_GoneBeforeItIsResumed: the server has no session on the second connection.
func TestSessionAdopted_GoneBeforeItIsResumed(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := persistence.NewMemory(persistence.Options{})
		a := newAdopting(t, s, store)
		c := a.start()
		publish(t, c, "t", "x", client.ExactlyOnce)
		a.unknown()
		p := a.s.accept(control.Connack{})
		if got := p.nextPublish(); string(got.Payload) != "x" { // without a purge
			t.Errorf("published %q", got.Payload)
		}
		if owner, _ := store.Session(); owner != "c" {
			t.Errorf("the session belongs to %q", owner)
		}
		must(t, c.Close())
	})
}

// brokenReset is a store that cannot begin a session, some times.
type brokenReset struct {
	persistence.Store
	left atomic.Int32
}

func (s *brokenReset) ResetSession(clientID string) error {
	if s.left.Add(-1) >= 0 {
		return errors.New("no space")
	}
	return s.Store.ResetSession(clientID)
}

// TestSessionAdopted_StoreFails: without its record the session is not resumed.
func TestSessionAdopted_StoreFails(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := &brokenReset{Store: persistence.NewMemory(persistence.Options{})}
		store.left.Store(2)
		a := newAdopting(t, s, store)
		c := a.start()
		for range 3 {
			a.unknown()
		}
		a.resumed().purge(10, 0)
		must(t, c.Close())
		failed := eventsOf[client.ConnectFailed](&a.events)
		if len(failed) != 3 || failed[0].Err.Error() == failed[2].Err.Error() || !errors.Is(failed[2].Err, client.ErrSessionAdopted) || !errors.Is(failed[2].Err, client.ErrUnknownSession) {
			t.Errorf("%+v", failed)
		}
	})
}

// TestSessionAdopted_FailInFlight: messages that were sent in a session under another ClientID end as
// their choice says.
func TestSessionAdopted_FailInFlight(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		store := persistence.NewMemory(persistence.Options{})
		must(t, store.ResetSession("other"))
		_, err := persistence.Append(store, &persistence.Message{ID: [16]byte{1}, Packet: wire.AppendPublish(nil, &wire.Publish{Topic: "t", QoS: 1, Payload: []byte("f")}), OnSessionLost: persistence.FailInFlight})
		must(t, err)
		must(t, store.SetSent(persistence.Normal, 1))
		must(t, store.Seen(7, 1))
		must(t, store.Sync())
		a := newAdopting(t, s, store.Reopen())
		c := a.start()
		a.unknown()
		p := a.resumed()
		p.publish(wire.Publish{Topic: "w", QoS: 2, PacketID: 7, Dup: true, Payload: []byte("waits")})
		if got := <-a.got; got != "waits" { // the record of the other session says nothing about it
			t.Errorf("received %q", got)
		}
		synctest.Wait()
		if lost := eventsOf[client.SessionLost](&a.events); len(lost) != 1 || lost[0].Failed != 1 {
			t.Errorf("%+v", lost)
		}
		must(t, c.Close())
	})
}
