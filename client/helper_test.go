package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// recorder keeps the events of a client.
type recorder struct {
	mu   sync.Mutex
	list []client.Event
}

func (r *recorder) add(e client.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
}

// eventsOf returns the recorded events of one type. In a bubble it waits until all have come.
func eventsOf[T client.Event](r *recorder) (found []T) {
	if time.Now().Year() < 2020 {
		synctest.Wait()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.list {
		if v, ok := e.(T); ok {
			found = append(found, v)
		}
	}
	return found
}

// awaitEvents waits until at least n events of one type are recorded, looking every
// millisecond.
func awaitEvents[T client.Event](t *testing.T, r *recorder, n int, limit time.Duration) {
	t.Helper()
	for end := time.Now().Add(limit); len(eventsOf[T](r)) < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d events of type %T after %v, want %d", len(eventsOf[T](r)), *new(T), limit, n)
		}
	}
}

// testConfig connects through dial, soon again after a loss, and records what
// happens.
func testConfig(id string, events *recorder, dial func() net.Conn) client.Config {
	return client.Config{
		Servers:  []string{"mqtt://server"},
		ClientID: id,
		Connection: client.ConnectionConfig{
			Dial:    func(context.Context, *url.URL) (net.Conn, error) { return dial(), nil },
			Backoff: reliability.Backoff{Min: 10 * time.Millisecond, Max: time.Second},
		},
		OnEvent: events.add,
	}
}

// finalRefusals make each refusal final.
var finalRefusals = []client.RefusalRule{{Action: client.GiveUp}}

// mustNew makes a client and closes it when the test ends.
func mustNew(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		<-c.Done() // a handler may outlive CloseTimeout
	})
	return c
}

// usedStore is a store under which an earlier process had a session.
func usedStore(t testing.TB) persistence.Store { return usedStoreOf(t, "c") }

func usedStoreOf(t testing.TB, clientID string) persistence.Store {
	t.Helper()
	m := persistence.NewMemory(persistence.Options{})
	must(t, m.ResetSession(clientID))
	return m.Reopen()
}

// mustStart makes a client and starts it.
func mustStart(t testing.TB, cfg client.Config) *client.Client {
	t.Helper()
	c := mustNew(t, cfg)
	start(t, c)
	return c
}

func start(t testing.TB, c *client.Client) {
	t.Helper()
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func connect(t testing.TB, c *client.Client) {
	t.Helper()
	if err := c.AwaitConnection(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, c *client.Client, topic, payload string, qos client.QoS) *client.Delivery {
	t.Helper()
	d, err := c.Publish(context.Background(), client.Message{Topic: topic, Payload: []byte(payload), QoS: qos})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// wantState waits for the outcome and wants it to be of this kind.
func wantState(t testing.TB, d *client.Delivery, want client.State) client.Outcome {
	t.Helper()
	<-d.Done()
	o := d.Outcome()
	if o.State != want {
		t.Errorf("the message ended as %v (%v), want %v", o.State, o.Err, want)
	}
	return o
}

// wantAccounts checks that everything accepted is accounted for.
func wantAccounts(t testing.TB, c *client.Client) {
	t.Helper()
	s := c.Stats().Store
	if s.Accepted != s.Acked+s.Refused+s.Expired+s.Dropped+s.DeadLettered+s.Pending {
		t.Errorf("the accounts do not close: %+v", s)
	}
}

// messageLog is a handler that keeps what it gets.
type messageLog struct {
	mu   sync.Mutex
	list []*client.Message
	more chan struct{}
}

func newInbox() *messageLog { return &messageLog{more: make(chan struct{}, 1)} }

func (b *messageLog) Handle(_ context.Context, m *client.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, m)
	select {
	case b.more <- struct{}{}:
	default:
	}
	return nil
}

func (b *messageLog) payloads() (list []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.list {
		list = append(list, string(m.Payload))
	}
	return list
}

func (b *messageLog) messages() []*client.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*client.Message(nil), b.list...)
}

// await waits until n messages have come.
func (b *messageLog) await(t testing.TB, n int) []*client.Message {
	t.Helper()
	for {
		if list := b.messages(); len(list) >= n {
			return list
		}
		select {
		case <-b.more:
		case <-t.Context().Done():
			t.Fatalf("%d messages came, want %d", len(b.messages()), n)
		}
	}
}

// inBubble runs a test with a broker and a proxy, without sockets and with fake time.
func inBubble(t *testing.T, o mqtttest.Options, test func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.NoTCP = true
		b := mqtttest.Start(t, mqtttest.With(o))
		p := mqtttest.NewPipeProxy(pipeTo(b))
		t.Cleanup(func() { _ = p.Close() })
		test(t, b, p)
	})
}

// pipeTo dials a broker for a pipe proxy.
func pipeTo(b *mqtttest.Broker) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) { return b.Dial(), nil }
}

// through dials a pipe proxy.
func through(p *mqtttest.Proxy) func() net.Conn {
	return func() net.Conn {
		nc, err := p.Dial()
		if err != nil {
			nc, _ = net.Pipe()
			_ = nc.Close()
		}
		return nc
	}
}

// script is a server that says exactly what the test makes it say.
type script struct {
	t     testing.TB
	conns chan net.Conn
}

// withScript runs a test against a scripted server, on fake time.
func withScript(t *testing.T, test func(t *testing.T, s *script)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, &script{t: t, conns: make(chan net.Conn, 1024)}) })
}

func (s *script) dial() net.Conn {
	near, far := net.Pipe()
	s.t.Cleanup(func() { _ = far.Close() })
	s.conns <- &turns{far, make(chan struct{}, 1)}
	return near
}

// turns is a pipe whose writers wait for each other at a channel. At the lock in
// a pipe they would stop the fake time.
type turns struct {
	net.Conn
	writing chan struct{}
}

func (c *turns) Write(b []byte) (int, error) {
	c.writing <- struct{}{}
	defer func() { <-c.writing }()
	return c.Conn.Write(b)
}

// peer is one connection as the server sees it. PINGREQ is answered.
type peer struct {
	t       testing.TB
	nc      net.Conn
	got     chan wire.Frame // closed when the connection ends
	connect control.Connect
	pings   int
	mu      sync.Mutex
}

// accept takes the next connection and answers its CONNECT. Where that asks for
// a new session, Session Present is 0, as it must be [MQTT-3.2.2-2].
func (s *script) accept(ack control.Connack) *peer {
	s.t.Helper()
	p := s.open()
	ack.SessionPresent = ack.SessionPresent && !p.connect.CleanStart
	p.send(control.AppendConnack(nil, &ack))
	return p
}

// open takes the next connection and its CONNECT.
func (s *script) open() *peer {
	s.t.Helper()
	p := &peer{t: s.t, got: make(chan wire.Frame, 1<<17)}
	select {
	case p.nc = <-s.conns:
	case <-time.After(24 * time.Hour):
		s.t.Fatal("the client does not connect")
	}
	go p.read()
	var err error
	if p.connect, err = control.ParseConnect(p.next(wire.CONNECT)); err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (p *peer) read() {
	defer close(p.got)
	for r := wire.NewReader(p.nc, 0); ; {
		f, err := r.Next()
		if err != nil {
			return
		}
		if f.Type() == wire.PINGREQ {
			p.mu.Lock()
			p.pings++
			p.mu.Unlock()
			go func() { _, _ = p.nc.Write(control.AppendPingresp(nil)) }() // the client may not be reading
			continue
		}
		raw := append([]byte(nil), f.Raw...)
		p.got <- wire.Frame{Header: f.Header, Raw: raw, Body: raw[len(raw)-len(f.Body):]}
	}
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.nc.Write(b); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Fatalf("the client takes nothing: %v", err)
	}
}

// next is the next packet, which must be of type want.
func (p *peer) next(want wire.Type) wire.Frame {
	p.t.Helper()
	select {
	case f, ok := <-p.got:
		if !ok {
			p.t.Fatalf("the connection ended; a %v was expected", want)
		}
		if f.Type() != want {
			p.t.Fatalf("got %v % x, want %v", f.Type(), f.Raw, want)
		}
		return f
	case <-time.After(24 * time.Hour):
		p.t.Fatalf("nothing came; a %v was expected", want)
	}
	panic("unreachable")
}

// nextPublish is the next packet, which must be a PUBLISH.
func (p *peer) nextPublish() wire.Publish {
	p.t.Helper()
	v, err := wire.ParsePublish(p.next(wire.PUBLISH))
	if err != nil {
		p.t.Fatal(err)
	}
	return v.Decode(string(v.Topic))
}

// nextAck is the next packet, which must be this acknowledgement. What the client reports
// afterwards is reported when nextAck returns.
func (p *peer) nextAck(want wire.Type) wire.Ack {
	p.t.Helper()
	defer synctest.Wait()
	a, err := wire.ParseAck(p.next(want))
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *peer) ack(kind wire.Type, id uint16, reason byte, text string) {
	p.t.Helper()
	p.send(wire.AppendAck(nil, wire.Ack{Type: kind, PacketID: id, Reason: reason, ReasonString: []byte(text)}))
}

// publish sends an application message to the client.
func (p *peer) publish(m wire.Publish) {
	p.t.Helper()
	image := wire.AppendPublish(nil, &m)
	p.send(wire.AppendImage(nil, image, m.PacketID, m.Dup, m.MessageExpiry))
}

// quiet wants that nothing comes without something new happening.
func (p *peer) quiet() {
	p.t.Helper()
	synctest.Wait()
	select {
	case f, ok := <-p.got:
		if ok {
			p.t.Fatalf("got %v % x, want nothing", f.Type(), f.Raw)
		}
		p.t.Fatal("the connection ended, and should stand")
	default:
	}
}

// ended waits until the client has closed the connection and returns the last
// packet, if there was one.
func (p *peer) ended() (last wire.Frame) {
	p.t.Helper()
	for {
		select {
		case f, ok := <-p.got:
			if !ok {
				return last
			}
			last = f
		case <-time.After(24 * time.Hour):
			p.t.Fatal("the connection is up, and should have ended")
		}
	}
}

func (p *peer) close() { _ = p.nc.Close() }

// grantSubscribe answers the next packet, a SUBSCRIBE, with a grant of what was
// asked for.
func (p *peer) grantSubscribe() control.Subscribe {
	p.t.Helper()
	sub, err := control.ParseSubscribe(p.next(wire.SUBSCRIBE))
	if err != nil {
		p.t.Fatal(err)
	}
	ack := control.Suback{PacketID: sub.PacketID}
	for _, f := range sub.Subscriptions {
		ack.Reasons = append(ack.Reasons, f.QoS)
	}
	p.send(control.AppendSuback(nil, &ack))
	return sub
}

// userProperty is the value of a user property of a PUBLISH.
func userProperty(p wire.Publish, name string) string {
	for _, u := range p.User {
		if u.Key == name {
			return u.Value
		}
	}
	return ""
}
