package conformance

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/fakebroker"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// rig is a client connected to a scripted server, with fake time. Its configuration may be changed
// before start. Keep Alive and timeouts are long, so the client sends nothing because of them.
type rig struct {
	*fakebroker.Broker
	t   *testing.T
	cfg client.Config

	mu     sync.Mutex
	events []client.Event
	got    []*client.Message
}

// onRig runs a test in a bubble of testing/synctest.
func onRig(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{Broker: fakebroker.New(t), t: t}
		r.cfg = client.Config{
			Servers:  []string{"mqtt://server"},
			ClientID: "c",
			Connection: client.ConnectionConfig{
				Dial:       r.Dial,
				KeepAlive:  18 * time.Hour,
				AckTimeout: 1000 * time.Hour,
				Backoff:    reliability.Backoff{Min: 10 * time.Millisecond, Max: 2 * time.Second},
			},
			// A refusal is final here. Package refusals tests messages that are sent again.
			Publishing: client.PublishingConfig{Refusals: []client.RefusalRule{{Action: client.GiveUp}}},
			OnEvent: func(e client.Event) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.events = append(r.events, e)
			},
		}
		test(t, r)
	})
}

// client creates and starts a client.
func (r *rig) client() *client.Client {
	r.t.Helper()
	c, err := client.New(r.cfg)
	r.must(err)
	r.t.Cleanup(func() { _ = c.Close() })
	r.must(c.Start(context.Background()))
	return c
}

// start creates a client and accepts its first connection.
func (r *rig) start(ack control.Connack) (*client.Client, *fakebroker.Conn) {
	r.t.Helper()
	c := r.client()
	conn, _ := r.Connect(ack)
	r.await(c)
	return c, conn
}

// receiver is like start, for a client with a handler for all topics.
func (r *rig) receiver(ack control.Connack, handle client.HandlerFunc) (*client.Client, *fakebroker.Conn) {
	r.t.Helper()
	c, err := client.New(r.cfg)
	r.must(err)
	r.t.Cleanup(func() { _ = c.Close() })
	r.must(c.Handle("#", handle))
	r.must(c.Start(context.Background()))
	conn, _ := r.Connect(ack)
	r.await(c)
	return c, conn
}

// keep is a handler that accepts and records all messages.
func (r *rig) keep(_ context.Context, m *client.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
	return nil
}

// kept returns the payloads of the recorded messages.
func (r *rig) kept() string {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	text := ""
	for _, m := range r.got {
		text += string(m.Payload)
	}
	return text
}

// wantKept checks the payloads of all messages handled so far.
func (r *rig) wantKept(want string) {
	r.t.Helper()
	if got := r.kept(); got != want {
		r.t.Errorf("handled were %q, want %q", got, want)
	}
}

// resume closes a connection and accepts the next one, of the same session.
func (r *rig) resume(conn *fakebroker.Conn) *fakebroker.Conn {
	r.t.Helper()
	conn.Close()
	next, connect := r.Connect(control.Connack{SessionPresent: true})
	if connect.CleanStart {
		r.t.Fatal("the client asks for a new session")
	}
	return next
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// publish makes the client accept a message for topic t.
func (r *rig) publish(c *client.Client, qos client.QoS, payload string) *client.Delivery {
	r.t.Helper()
	return r.publishMessage(c, client.Message{Topic: "t", QoS: qos, Payload: []byte(payload)})
}

func (r *rig) publishMessage(c *client.Client, m client.Message) *client.Delivery {
	r.t.Helper()
	d, err := c.Publish(context.Background(), m)
	r.must(err)
	return d
}

// state returns the present or final state of a delivery.
func (r *rig) state(d *client.Delivery) client.State {
	synctest.Wait()
	select {
	case <-d.Done():
		return d.Outcome().State
	default:
		return client.Pending
	}
}

// wantState checks the present state of a delivery.
func (r *rig) wantState(d *client.Delivery, want client.State) {
	r.t.Helper()
	if got := r.state(d); got != want {
		r.t.Errorf("the message is %v, want %v", got, want)
	}
}

// wantPublish checks that the next packet is a PUBLISH with this payload.
func (r *rig) wantPublish(conn *fakebroker.Conn, payload string, dup bool) wire.Publish {
	r.t.Helper()
	p := conn.ExpectPublish()
	if string(p.Payload) != payload || p.Dup != dup {
		r.t.Errorf("PUBLISH of %q with DUP %v came, want %q with DUP %v", p.Payload, p.Dup, payload, dup)
	}
	return p
}

// eventsOf returns the events of one type so far.
func eventsOf[T client.Event](r *rig) (found []T) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if v, ok := e.(T); ok {
			found = append(found, v)
		}
	}
	return found
}

// message returns a PUBLISH from the server for topic t.
func message(qos byte, id uint16, payload string) wire.Publish {
	return wire.Publish{Topic: "t", QoS: qos, PacketID: id, Payload: []byte(payload)}
}

// again returns the same PUBLISH with DUP.
func again(p wire.Publish) wire.Publish {
	p.Dup = true
	return p
}

// wantEnd sends packets that a server must not send, while nothing else is in progress. It checks
// that the client sends DISCONNECT with a reason code and closes the connection.
func (r *rig) wantEnd(conn *fakebroker.Conn, reason byte, packets ...[]byte) {
	r.t.Helper()
	conn.Quiet()
	conn.Send(packets...)
	conn.ExpectDisconnect(reason)
}
