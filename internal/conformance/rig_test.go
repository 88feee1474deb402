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

// rig is a client in front of a scripted server, on fake time. Its configuration
// may be changed before start. Keep Alive and timeouts are so long that nothing
// is sent by itself.
type rig struct {
	*fakebroker.Broker
	t   *testing.T
	cfg client.Config

	mu     sync.Mutex
	events []client.Event
	got    []*client.Message
}

// onRig runs a test in a bubble.
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
			// A refusal is final here: package refusals tests messages that are sent again.
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

// client makes a client, and starts it.
func (r *rig) client() *client.Client {
	r.t.Helper()
	c, err := client.New(r.cfg)
	r.must(err)
	r.t.Cleanup(func() { _ = c.Close() })
	r.must(c.Start(context.Background()))
	return c
}

// start makes a client and accepts its first connection.
func (r *rig) start(ack control.Connack) (*client.Client, *fakebroker.Conn) {
	r.t.Helper()
	c := r.client()
	conn, _ := r.Connect(ack)
	r.await(c)
	return c, conn
}

// receiver is start for a client that has a handler for all topics.
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

// keep is a handler that accepts and keeps what comes.
func (r *rig) keep(_ context.Context, m *client.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, m)
	return nil
}

// kept is the payloads of what came so far.
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

// wantKept wants that the payloads of all that was handled so far are these.
func (r *rig) wantKept(want string) {
	r.t.Helper()
	if got := r.kept(); got != want {
		r.t.Errorf("handled were %q, want %q", got, want)
	}
}

// resume drops a connection and accepts the next one, of the same session.
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

// publish has the client accept a message for topic t.
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

// state is how a delivery stands, or ended.
func (r *rig) state(d *client.Delivery) client.State {
	synctest.Wait()
	select {
	case <-d.Done():
		return d.Outcome().State
	default:
		return client.Pending
	}
}

// wantState wants a delivery to stand so now.
func (r *rig) wantState(d *client.Delivery, want client.State) {
	r.t.Helper()
	if got := r.state(d); got != want {
		r.t.Errorf("the message is %v, want %v", got, want)
	}
}

// wantPublish wants a PUBLISH with this payload next.
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

// message is a PUBLISH of the server's, for topic t.
func message(qos byte, id uint16, payload string) wire.Publish {
	return wire.Publish{Topic: "t", QoS: qos, PacketID: id, Payload: []byte(payload)}
}

// again is the same PUBLISH with DUP.
func again(p wire.Publish) wire.Publish {
	p.Dup = true
	return p
}

// wantEnd sends what a server may not send, while nothing else is under way, and
// wants DISCONNECT with a reason code and the end of the connection.
func (r *rig) wantEnd(conn *fakebroker.Conn, reason byte, packets ...[]byte) {
	r.t.Helper()
	conn.Quiet()
	conn.Send(packets...)
	conn.ExpectDisconnect(reason)
}
