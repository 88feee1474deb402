package mqtttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestProxy_ForwardsAndCounts(t *testing.T) {
	f := newProxyField(t)
	client, server := f.connect()
	large := proxyPublish(1, 3<<20) // more than the proxy buffers
	done := make(chan error, 1)
	go func() { _, err := client.Write(large); done <- err }()
	server.expect(large)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	server.send(proxyPuback(1))
	client.expect(proxyPuback(1))
	f.wait(func(s ProxyStats) bool {
		return s.Connections == 1 && s.Open == 1 && s.Cuts == 0 && s.Opaque == 0 &&
			s.ToServer == ProxyFlow{int64(len(proxyConnect) + len(large)), 2} &&
			s.ToClient == ProxyFlow{int64(len(proxyConnack) + 4), 2}
	})
}

func TestProxy_ForwardsEndOfConnection(t *testing.T) {
	f := newProxyField(t)
	client, server := f.connect()
	client.send(proxyPing)
	_ = client.Close()
	server.expect(proxyPing)
	if _, err := server.r.Next(); err != io.EOF {
		t.Fatalf("server got %v, want io.EOF", err)
	}
	_ = server.Close()
	f.wait(func(s ProxyStats) bool { return s.Open == 0 && s.Cuts == 0 })

	client, server = f.connect()
	_ = server.Conn.(*net.TCPConn).SetLinger(0)
	_ = server.Close()
	client.expectReset()
}

func TestProxyCut_ResetsBothEnds(t *testing.T) {
	f := newProxyField(t)
	a, serverA := f.connect()
	b, serverB := f.connect()
	f.Cut()
	for _, end := range []*proxyEndpoint{a, serverA, b, serverB} {
		end.expectReset()
	}
	f.wait(func(s ProxyStats) bool { return s.Cuts == 2 && s.Open == 0 })
	f.connect()
}

func TestProxyCutAfter_DeliversExactBytes(t *testing.T) {
	for _, n := range []int{0, 1, 5, 100_000} {
		f := newProxyField(t)
		client, server := f.connect()
		f.CutAfter(ToServer, n)
		go func() { _, _ = client.Write(proxyPublish(1, 200_000)) }() // ends with the cut
		if got := server.readAll(); !bytes.Equal(got, proxyPublish(1, 200_000)[:n]) {
			t.Errorf("CutAfter(%d): %d bytes arrived", n, len(got))
		}
		client.expectEnd()
		f.wait(func(s ProxyStats) bool { return s.Cuts == 1 && s.Open == 0 })

		client, server = f.connect() // used up
		client.send(proxyPing)
		server.expect(proxyPing)
	}
}

func TestProxyCutInside_TruncatesPacket(t *testing.T) {
	f := newProxyField(t)
	client, server := f.connect()
	f.CutInside(ToServer, PUBLISH)
	publish := proxyPublish(1, 100)
	client.send(proxyPing, publish)
	server.expect(proxyPing)
	if _, err := server.r.Next(); err != io.ErrUnexpectedEOF || server.r.Buffered() != len(publish)/2 {
		t.Fatalf("got %v with %d bytes of a packet, want half of it", err, server.r.Buffered())
	}
	client.expectReset()
	f.wait(func(s ProxyStats) bool { return s.Cuts == 1 && s.Torn == 1 && s.ToServer.Packets == 2 })

	client, server = f.connect()
	client.send(publish)
	server.expect(publish)
}

func TestProxyLose_DropsAcknowledgementAndConnection(t *testing.T) {
	f := newProxyField(t)
	client, server := f.connect()
	f.Lose(ToClient, PUBACK, PUBREC)
	client.send(proxyPublish(1, 10))
	server.expect(proxyPublish(1, 10))
	server.send(proxyPong, proxyPuback(1), proxyPong)
	client.expect(proxyPong)
	if frame, err := client.r.Next(); err != io.EOF {
		t.Fatalf("client got %x, %v, want the end after the PINGRESP", frame.Raw, err)
	}
	server.expectReset()
	_ = client.Close()
	f.wait(func(s ProxyStats) bool { return s.Lost == 1 && s.Cuts == 1 && s.Open == 0 })

	client, server = f.connect()
	server.send(proxyPuback(1))
	client.expect(proxyPuback(1))
}

func TestProxyLoseNext_DropsPacketsBetween(t *testing.T) {
	f := newProxyField(t)
	client, server := f.connect()
	f.LoseNext(ToClient, 3, PUBACK)
	server.send(proxyPuback(1), proxyPong, proxyPuback(2))
	f.wait(func(s ProxyStats) bool { return s.Lost == 2 })
	_ = client.Close() // one of the three is still to be lost
	server.expectEnd()

	client, server = f.connect()
	server.send(proxyPong, proxyPuback(3), proxyPuback(4))
	client.expect(proxyPong)
	client.expectEnd()
	f.wait(func(s ProxyStats) bool { return s.Lost == 3 && s.Cuts == 1 })
}

func TestProxyOnPacket_Actions(t *testing.T) {
	publish := proxyPublish(1, 100)
	cases := []struct {
		action Action
		passes int // bytes of the PUBLISH that arrive
		want   ProxyStats
	}{
		{ActionDrop, 0, ProxyStats{Lost: 1}},
		{ActionTear, len(publish) / 2, ProxyStats{Torn: 1}},
		{ActionCutBefore, 0, ProxyStats{}},
		{ActionCutAfter, len(publish), ProxyStats{}},
	}
	for _, c := range cases {
		f := newProxyField(t)
		client, server := f.connect()
		var seen []byte
		f.OnPacket(func(dir Direction, header byte, body []byte) Action {
			if dir == ToServer && PacketType(header>>4) == PUBLISH {
				seen = bytes.Clone(body)
				return c.action
			}
			return ActionPass
		})
		client.send(proxyPing, publish)
		want := append(bytes.Clone(proxyPing), publish[:c.passes]...)
		if got := server.readAll(); !bytes.Equal(got, want) {
			t.Errorf("action %d: %d bytes arrived, want %d", c.action, len(got), len(want))
		}
		client.expectEnd()
		f.wait(func(s ProxyStats) bool {
			return s.Open == 0 && s.Cuts == 1 && s.Lost == c.want.Lost && s.Torn == c.want.Torn
		})
		if !bytes.Equal(seen, publish[2:]) {
			t.Errorf("action %d: the hook saw %d bytes of body, want %d", c.action, len(seen), len(publish)-2)
		}
		f.OnPacket(nil)
		f.connect()
	}
}

func TestProxy_ForwardsOtherProtocols(t *testing.T) {
	f := newProxyField(t)
	f.OnPacket(func(Direction, byte, []byte) Action { return ActionDrop })
	client, server := f.dial(), f.server()
	hello := []byte{0x16, 3, 1, 0, 2, 1, 2}
	for _, way := range [][2]*proxyEndpoint{{client, server}, {server, client}} {
		way[0].send(hello)
		got := make([]byte, len(hello))
		if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, hello) {
			t.Fatalf("got %x, %v", got, err)
		}
	}
	f.wait(func(s ProxyStats) bool { return s.Opaque == 2 && s.ToServer.Bytes == 7 })
	f.CutAfter(ToClient, 3) // works all the same
	server.send(hello)
	if got := client.readAll(); !bytes.Equal(got, hello[:3]) {
		t.Fatalf("got %x", got)
	}
}

func TestProxyRefuse(t *testing.T) {
	f := newProxyField(t)
	client, server := f.connect()
	f.Refuse(true)
	f.expectRefused()
	f.wait(func(s ProxyStats) bool { return s.Refused == 1 })
	client.send(proxyPing) // existing ones stay
	server.expect(proxyPing)
	f.Refuse(false)
	f.connect()
}

func TestProxyBlackhole(t *testing.T) {
	f := newProxyField(t)
	f.Blackhole(true)
	client := f.dial()
	client.send(proxyConnect, make([]byte, 1<<20))
	f.wait(func(s ProxyStats) bool { return s.Blackholed == 1 && s.Connections == 0 })
	f.Blackhole(false)
	_, server := f.connect() // the first one to reach the server
	f.Cut()
	client.expectReset()
	server.expectReset()
	f.wait(func(s ProxyStats) bool { return s.Cuts == 2 })
}

func TestProxySetTarget(t *testing.T) {
	f := newProxyField(t)
	_, old := f.connect()
	addr, accepted := proxyServer(t)
	if err := f.SetTarget(addr); err != nil {
		t.Fatal(err)
	}
	f.Cut()
	old.expectReset()
	f.accepted = accepted
	f.connect()

	for _, bad := range []string{"", "nowhere", "mqtt://nowhere", "mqtt://a b:1"} {
		if err := f.SetTarget(bad); err == nil || !strings.Contains(err.Error(), "target") {
			t.Errorf("SetTarget(%q) = %v", bad, err)
		}
	}
}

func TestProxy_TargetDown(t *testing.T) {
	f := newProxyField(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	if err := f.SetTarget(listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	f.expectRefused()
	f.wait(func(s ProxyStats) bool { return s.DialErrors == 1 && s.Connections == 0 })
}

func TestProxyClearFaults(t *testing.T) {
	f := newProxyField(t)
	f.OnPacket(func(Direction, byte, []byte) Action { return ActionDrop })
	f.Lose(ToClient)
	f.CutInside(ToServer, CONNECT)
	f.CutAfter(ToServer, 1)
	f.Stall()
	f.Throttle(1)
	f.Delay(time.Hour, 0)
	f.Refuse(true)
	f.Blackhole(true)
	f.ClearFaults()
	f.connect()
}

func TestProxyClose_WaitsForGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	addr, accepted := proxyServer(t)
	p, err := NewProxy("127.0.0.1:0", addr)
	if err != nil {
		t.Fatal(err)
	}
	f := &proxyField{Proxy: p, t: t, accepted: accepted}
	client, server := f.connect()
	f.Stall()
	client.send(proxyPing)
	f.CutEvery(time.Hour, time.Hour)
	f.Blackhole(true)
	swallowed := f.dial()
	f.wait(func(s ProxyStats) bool { return s.Blackholed == 1 })
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for _, end := range []*proxyEndpoint{client, server, swallowed} {
		end.expectReset()
	}
	// One more is the test's own server; those that Close waited for may still
	// have their last instruction to do.
	for deadline := time.Now().Add(proxyPatience); runtime.NumGoroutine() > before+1; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := p.Dial(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after Close: %v", err)
	}
	p.CutEvery(time.Hour, time.Hour)()
}

func TestNewProxy_Errors(t *testing.T) {
	if _, err := NewProxy("127.0.0.1:0", "nowhere"); err == nil {
		t.Error("a target without a port was taken")
	}
	if _, err := NewProxy("256.0.0.1:0", "127.0.0.1:1883"); err == nil {
		t.Error("an impossible address was taken")
	}
}

func TestProxyWaitFor_EndsWithContext(t *testing.T) {
	f := newProxyField(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := f.WaitFor(ctx, func(s ProxyStats) bool { return s.Cuts > 0 })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Cuts:0") {
		t.Errorf("got %v", err)
	}
}
