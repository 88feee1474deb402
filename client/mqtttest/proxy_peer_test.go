package mqtttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

const proxyPatience = 10 * time.Second

var (
	proxyConnect = []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, 0, 0, 0}
	proxyConnack = []byte{0x20, 3, 0, 0, 0}
	proxyPing    = []byte{0xC0, 0}
	proxyPong    = []byte{0xD0, 0}
)

func proxyPublish(id uint16, size int) []byte {
	return wire.AppendPublish(nil, &wire.Publish{QoS: 1, PacketID: id, Topic: "a/b", Payload: make([]byte, size)})
}

func proxyPuback(id uint16) []byte {
	return wire.AppendAck(nil, wire.Ack{Type: wire.PUBACK, PacketID: id})
}

// proxyEndpoint reads packets and fails the test instead of hanging.
type proxyEndpoint struct {
	net.Conn
	t *testing.T
	r *wire.Reader
}

func newProxyEndpoint(t *testing.T, conn net.Conn) *proxyEndpoint {
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(proxyPatience)); err != nil {
		t.Fatal(err)
	}
	return &proxyEndpoint{Conn: conn, t: t, r: wire.NewReader(conn, 0)}
}

func (e *proxyEndpoint) send(packets ...[]byte) {
	e.t.Helper()
	if _, err := e.Write(bytes.Join(packets, nil)); err != nil {
		e.t.Fatalf("send: %v", err)
	}
}

func (e *proxyEndpoint) expect(packets ...[]byte) {
	e.t.Helper()
	for i, want := range packets {
		frame, err := e.r.Next()
		if err != nil {
			e.t.Fatalf("packet %d: %v, want %s", i, err, PacketType(want[0]>>4))
		}
		if !bytes.Equal(frame.Raw, want) {
			e.t.Fatalf("packet %d: got %x, want %x", i, frame.Raw, want)
		}
	}
}

// expectEnd wants the connection to end now: by a reset, or by an orderly end.
// Both can reach a sender as a reset only.
func (e *proxyEndpoint) expectEnd() {
	e.t.Helper()
	frame, err := e.r.Next()
	if err == nil {
		e.t.Fatalf("got %x, want the end of the connection", frame.Raw)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		e.t.Fatal("the connection did not end")
	}
}

func (e *proxyEndpoint) expectReset() {
	e.t.Helper()
	if _, err := e.r.Next(); !errors.Is(err, syscall.ECONNRESET) {
		e.t.Fatalf("got %v, want a reset", err)
	}
}

// proxyField is a proxy to a server of which the test holds the connections.
type proxyField struct {
	*Proxy
	t        *testing.T
	accepted chan net.Conn
}

func newProxyField(t *testing.T) *proxyField {
	listener, accepted := proxyServer(t)
	return &proxyField{Proxy: StartProxy(t, "mqtt://"+listener), t: t, accepted: accepted}
}

// proxyServer hands over what it accepts, until the test ends.
func proxyServer(t *testing.T) (addr string, accepted chan net.Conn) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = make(chan net.Conn, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	})
	t.Cleanup(func() { _ = listener.Close(); wg.Wait() })
	return listener.Addr().String(), accepted
}

func (f *proxyField) dial() *proxyEndpoint {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	if err != nil {
		f.t.Fatal(err)
	}
	return newProxyEndpoint(f.t, conn)
}

func (f *proxyField) server() *proxyEndpoint {
	f.t.Helper()
	select {
	case conn := <-f.accepted:
		return newProxyEndpoint(f.t, conn)
	case <-time.After(proxyPatience):
		f.t.Fatal("nobody connected to the server")
		return nil
	}
}

// connect makes a connection and exchanges CONNECT and CONNACK.
func (f *proxyField) connect() (client, server *proxyEndpoint) {
	f.t.Helper()
	client, server = f.dial(), f.server()
	client.send(proxyConnect)
	server.expect(proxyConnect)
	server.send(proxyConnack)
	client.expect(proxyConnack)
	return client, server
}

func (f *proxyField) wait(done func(ProxyStats) bool) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), proxyPatience)
	defer cancel()
	if err := f.WaitFor(ctx, done); err != nil {
		f.t.Fatal(err)
	}
}

// expectRefused wants a new connection to be reset, which may show as early as
// in the dialling.
func (f *proxyField) expectRefused() {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.Addr())
	if err == nil {
		newProxyEndpoint(f.t, conn).expectReset()
	} else if !errors.Is(err, syscall.ECONNRESET) {
		f.t.Fatal(err)
	}
}

// readAll reads what is left, whatever ends it, and closes.
func (e *proxyEndpoint) readAll() []byte {
	b, _ := io.ReadAll(e.Conn)
	_ = e.Close()
	return b
}
