package mqtttest

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/url"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// dial opens a socket to one of the broker's addresses.
func dial(t *testing.T, b *Broker, address string) net.Conn {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var nc net.Conn
	switch u.Scheme {
	case "mqtt":
		nc, err = net.Dial("tcp", u.Host)
	case "mqtts":
		nc, err = tls.Dial("tcp", u.Host, b.TLSConfig())
	case "ws":
		d := websocket.Dialer{Subprotocols: []string{"mqtt"}}
		var ws *websocket.Conn
		if ws, _, err = d.DialContext(context.Background(), address, nil); err == nil {
			nc = &webSocket{Conn: ws}
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	return nc
}

func TestListen_EveryTransport(t *testing.T) {
	b := Start(t, With(Options{TLS: true, WebSocket: true}))
	for _, address := range []string{b.URL(), b.TLSURL(), b.WebSocketURL()} {
		c := open(t, dial(t, b, address))
		c.connect(control.Connect{ClientID: "c"})
		c.subscribe(2, "t")
		c.publish("t", string(make([]byte, 100_000)), 1)
		if m := c.receive(); len(m.Payload) != 100_000 {
			t.Errorf("%s: got %d bytes", address, len(m.Payload))
		}
		c.send([]byte{0xC1, 0})
		c.over(wire.ReasonMalformedPacket)
	}
}

// A connection that is closed with bytes unread is reset, and on some systems
// a reset takes what was sent last with it.
func TestDisconnect_IsReceivedWhileClientSends(t *testing.T) {
	b := Start(t)
	nc := dial(t, b, b.URL())
	defer nc.Close()
	if _, err := nc.Write(append(control.AppendConnect(nil, &control.Connect{ClientID: "c"}), 0xC1, 0)); err != nil {
		t.Fatal(err)
	}
	if n, err := nc.Write(make([]byte, 8<<20)); err != nil { // more than the system buffers
		t.Errorf("the connection was closed with bytes unread: %d, %v", n, err)
	}
	got, err := io.ReadAll(nc)
	if err != nil {
		t.Errorf("after %d bytes: %v", len(got), err)
	}
	if !bytes.Contains(got, []byte{0x81}) || got[0] != byte(wire.CONNACK)<<4 {
		t.Errorf("got % x", got)
	}
}

func TestWebSocket_PacketsSpanFrames(t *testing.T) {
	b := Start(t, func(o *Options) { o.WebSocket = true })
	nc := dial(t, b, b.WebSocketURL())
	c := open(t, nc)
	stream := control.AppendConnect(nil, &control.Connect{ClientID: "c"})
	stream = control.AppendPingreq(control.AppendPingreq(stream))
	for _, piece := range [][]byte{stream[:1], stream[1:7], {}, stream[7 : len(stream)-3], stream[len(stream)-3:]} {
		c.send(piece)
	}
	c.next(wire.CONNACK)
	c.next(wire.PINGRESP)
	c.next(wire.PINGRESP)
	if err := nc.(*webSocket).WriteMessage(websocket.TextMessage, control.AppendPingreq(nil)); err != nil {
		t.Fatal(err)
	}
	c.over(0) // text frames are not allowed
}

func TestWebSocket_RequiresSubprotocol(t *testing.T) {
	b := Start(t, func(o *Options) { o.WebSocket = true })
	ws, _, err := websocket.DefaultDialer.Dial(b.WebSocketURL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseProtocolError) {
		t.Errorf("got %v", err)
	}
}

func TestListen_UnusedAddressesAreEmpty(t *testing.T) {
	b := Start(t, func(o *Options) { o.NoTCP = true })
	if b.URL() != "" || b.TLSURL() != "" || b.WebSocketURL() != "" || b.TLSConfig() != nil {
		t.Error("there is an address without a listener")
	}
}

func TestClose_SendsDisconnectAndKillDoesNot(t *testing.T) {
	for _, kill := range []bool{false, true} {
		b, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		c := open(t, dial(t, b, b.URL()))
		c.connect(control.Connect{ClientID: "c"})
		if kill {
			b.Kill()
			c.over(0)
		} else {
			go func() { _ = b.Close() }()
			c.over(reasonServerShuttingDown)
		}
		if err := b.Close(); err != nil { // a second time, and after Kill
			t.Error(err)
		}
		if _, err := net.Dial("tcp", b.Addr()); err == nil {
			t.Error("the port is still open")
		}
		nc := b.Dial()
		if !ended(nc) {
			t.Error("a connection to a closed broker does not end")
		}
		again, err := New(Options{Addr: b.Addr()}) // a restart on the same port
		if err != nil {
			t.Fatal(err)
		}
		_ = again.Close()
	}
}
