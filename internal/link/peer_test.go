package link

import (
	"context"
	"errors"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// noStore is a store that does nothing.
type noStore struct{}

func (noStore) Release(uint64) error       { return nil }
func (noStore) Seen(uint16, uint64) error  { return nil }
func (noStore) Cleared(uint16) error       { return nil }
func (noStore) SeenIDs() map[uint16]uint64 { return nil }
func (noStore) FingerprintKey() [16]byte   { return [16]byte{} }
func (noStore) Sync() error                { return nil }

// fakeStore is a store that knows a given session.
type fakeStore struct {
	has   bool
	owner string
}

func (s fakeStore) Session() (string, bool) { return s.owner, s.has }

// rig runs a Link whose server is the test.
type rig struct {
	t         *testing.T
	link      *Link
	peers     chan *peer // one for each dialed connection
	ups       chan *Up
	downs     chan error
	failures  chan error
	delivered chan string
	journal   *journal
	stop      context.CancelFunc
	ended     chan error // the error that Run returned
}

func (r *rig) Connecting(server *url.URL, attempt int) { r.journal.add("%d %s", attempt, server.Host) }
func (r *rig) Connected(up *Up)                        { r.ups <- up; <-up.Failed() }
func (r *rig) Disconnected(end End, d Decision) {
	r.journal.add("end %d, %v, wait %v", end.Attempt, end.Took, d.Delay)
	r.downs <- end.Err
}
func (r *rig) ConnectFailed(end End, d Decision) {
	r.journal.add("failed %d, %v, wait %v", end.Attempt, end.Took, d.Delay)
	r.failures <- end.Err
}

// run starts a Link with the Config that edit has changed. All timeouts differ, so that a test can
// distinguish them. Delays between attempts are an hour.
func run(t *testing.T, edit func(*Config)) *rig {
	r := &rig{t: t, peers: make(chan *peer), ups: make(chan *Up, 10), downs: make(chan error, 10),
		failures: make(chan error, 10), delivered: make(chan string, 10), ended: make(chan error, 1), journal: &journal{began: time.Now()}}
	conf := Config{
		Servers: []*url.URL{{Scheme: "mqtt", Host: "one:1883"}, {Scheme: "mqtt", Host: "two:1883"}},
		Dial: func(ctx context.Context, server *url.URL) (net.Conn, error) {
			near, far := net.Pipe()
			select {
			case r.peers <- &peer{Conn: far, r: wire.NewReader(far, 0), t: t, server: server.Host}:
				return near, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		Connect:        paho.Connect{Properties: &paho.ConnectProperties{}},
		Identity:       NewIdentity(IdentityConfig{ClientID: "c", Expiry: time.Hour, Store: fakeStore{true, "c"}}),
		Policy:         &Policy{Retry: reliability.Retry{Backoff: constant(time.Hour)}},
		ConnectTimeout: 7 * time.Second,
		WriteTimeout:   3 * time.Second,
		AckTimeout:     20 * time.Second,
		Observer:       r,
		Session: session.New(session.Config{Store: noStore{}, Settled: func(uint64, byte, string) {},
			Deliver: func(_ *session.Inbound, topic string, _ wire.PublishView) { r.delivered <- topic }}),
		ResetSession: func() error { return nil },
	}
	if edit != nil {
		edit(&conf)
	}
	r.link = New(conf)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	go func() { r.ended <- r.link.Run(ctx) }()
	return r
}

// constant is a backoff without jitter that does not grow.
func constant(d time.Duration) reliability.Backoff { return reliability.Backoff{Min: d, Max: d} }

// end cancels Run and checks that it returns at once.
func (r *rig) end() {
	r.t.Helper()
	began := time.Now()
	r.stop()
	if err := <-r.ended; err != nil || time.Since(began) > 0 {
		r.t.Errorf("Run returned %v after %v, want nil at once", err, time.Since(began))
	}
}

// up makes the connection come up with this CONNACK.
func (r *rig) up(ca control.Connack) (*peer, *Up) {
	r.t.Helper()
	p := <-r.peers
	p.accept(ca)
	return p, <-r.ups
}

// peer is the server's end of one connection.
type peer struct {
	net.Conn
	r      *wire.Reader
	t      *testing.T
	server string
}

func (p *peer) accept(ca control.Connack) control.Connect {
	p.t.Helper()
	c, err := control.ParseConnect(p.next(wire.CONNECT))
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(control.AppendConnack(nil, &ca))
	return c
}

// next reads a packet, which must be of type want.
func (p *peer) next(want wire.Type) wire.Frame {
	p.t.Helper()
	f, err := p.r.Next()
	if err != nil || f.Type() != want {
		p.t.Fatalf("got %v, %v, want %v", f.Type(), err, want)
	}
	return f
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// gone checks that the client closes the connection without sending another packet.
func (p *peer) gone() {
	p.t.Helper()
	if f, err := p.r.Next(); err == nil {
		p.t.Errorf("got %v, want the end of the connection", f.Type())
	}
	_ = p.Close()
}

// wantCode checks that err is a *wire.Error with this reason code.
func wantCode(t *testing.T, err error, code byte) {
	t.Helper()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("got %v, want a *wire.Error with 0x%02X", err, code)
	}
}
