package ackserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// peer is a client that sends raw packets.
type peer struct {
	net.Conn
	t testing.TB
	r *wire.Reader
}

func start(t testing.TB, o Options) *Server {
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// connectPacket returns a CONNECT with a Receive Maximum. 0: without one.
func connectPacket(window uint16, clientID string) []byte {
	var props []byte
	if window > 0 {
		props = wire.AppendProperty(nil, wire.Property{ID: wire.PropReceiveMaximum, Int: uint32(window)})
	}
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, byte(len(props))}
	body = wire.AppendString(append(body, props...), clientID)
	return append([]byte{0x10, byte(len(body))}, body...)
}

func connect(t testing.TB, s *Server, window uint16) *peer {
	t.Helper()
	p := dial(t, s)
	p.send(connectPacket(window, "c"))
	if got := p.next(); got.Type() != wire.CONNACK {
		t.Fatalf("got %x, want CONNACK", got.Raw)
	}
	return p
}

func dial(t testing.TB, s *Server) *peer {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	return &peer{nc, t, wire.NewReader(nc, 0)}
}

func (p *peer) send(packets ...[]byte) {
	p.t.Helper()
	if _, err := p.Write(bytes.Join(packets, nil)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) next() wire.Frame {
	p.t.Helper()
	frame, err := p.r.Next()
	if err != nil {
		p.t.Fatal(err)
	}
	return frame
}

func (p *peer) expect(packets ...[]byte) {
	p.t.Helper()
	for _, want := range packets {
		if got := p.next(); !bytes.Equal(got.Raw, want) {
			p.t.Fatalf("got %x, want %x", got.Raw, want)
		}
	}
}

func (p *peer) expectEnd() {
	p.t.Helper()
	if frame, err := p.r.Next(); err == nil {
		p.t.Fatalf("got %x, want the end of the connection", frame.Raw)
	}
}

func publish(qos byte, id uint16, size int) []byte {
	return wire.AppendPublish(nil, &wire.Publish{QoS: qos, PacketID: id, Topic: "a", Payload: make([]byte, size)})
}

func acknowledge(t wire.Type, id uint16) []byte {
	return wire.AppendAck(nil, wire.Ack{Type: t, PacketID: id})
}

func TestConnack_AnnouncesReceiveMaximumAndClientID(t *testing.T) {
	p := dial(t, start(t, Options{}))
	p.send(connectPacket(0, "c"))
	p.expect([]byte{0x20, 3, 0, 0, 0})

	p = dial(t, start(t, Options{ReceiveMaximum: 10}))
	p.send(connectPacket(0, ""))
	props, _, err := wire.SplitProperties(wire.CONNACK, p.next().Body[2:])
	if err != nil {
		t.Fatal(err)
	}
	window, _ := props.Next()
	id, _ := props.Next()
	if window.ID != wire.PropReceiveMaximum || window.Int != 10 || id.ID != wire.PropAssignedClientID || len(id.Bytes) == 0 {
		t.Errorf("got %+v and %+v", window, id)
	}
}

func TestServer_AnswersEachPacket(t *testing.T) {
	s := start(t, Options{})
	p := connect(t, s, 0)
	p.send(publish(0, 0, 5), publish(1, 7, 5), publish(2, 8, 100_000),
		acknowledge(wire.PUBREL, 8), []byte{0xC0, 0},
		[]byte{0x82, 11, 0, 9, 0, 0, 1, 'a', 1, 0, 1, 'b', 2},
		[]byte{0xA2, 6, 0, 10, 0, 0, 1, 'a'})
	p.expect(acknowledge(wire.PUBACK, 7), acknowledge(wire.PUBREC, 8), acknowledge(wire.PUBCOMP, 8),
		[]byte{0xD0, 0}, []byte{0x90, 5, 0, 9, 0, 1, 2}, []byte{0xB0, 4, 0, 10, 0, 0})
	if n := s.Received(); n != 3 {
		t.Errorf("Received() = %d, want 3", n)
	}
	p.send([]byte{0xE0, 0})
	p.expectEnd()
}

func TestServer_AnswersDespiteAPartialPacket(t *testing.T) {
	p := connect(t, start(t, Options{}), 0)
	second := publish(1, 2, 50)
	p.send(publish(1, 1, 5), second[:20])
	p.expect(acknowledge(wire.PUBACK, 1))
	p.send(second[20:])
	p.expect(acknowledge(wire.PUBACK, 2))
}

func TestServer_EndsTheConnectionOnInvalidPackets(t *testing.T) {
	s := start(t, Options{})
	for name, packet := range map[string][]byte{
		"no CONNECT":     {0xC0, 0},
		"MQTT 3.1.1":     {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 30, 0, 0},
		"short CONNECT":  {0x10, 3, 0, 4, 'M'},
		"no client ID":   {0x10, 11, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 30, 0},
		"not MQTT, long": bytes.Repeat([]byte{0xFF}, 20),
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, s)
			p.send(packet)
			p.expectEnd()
		})
	}
	for name, packet := range map[string][]byte{
		"second CONNECT":         connectPacket(0, "c"),
		"identifier 0":           publish(1, 0, 5),
		"short PUBLISH":          {0x32, 1, 0},
		"PUBLISH ends in topic":  {0x32, 4, 0, 9, 'a', 'b'},
		"short PUBREL":           {0x62, 1, 0},
		"PUBACK out of the blue": acknowledge(wire.PUBACK, 1),
		"SUBSCRIBE cut off":      {0x82, 5, 0, 9, 0, 0, 9},
		"UNSUBSCRIBE cut off":    {0xA2, 5, 0, 9, 0, 0, 9},
	} {
		t.Run(name, func(t *testing.T) {
			p := connect(t, s, 0)
			p.send(packet)
			p.expectEnd()
		})
	}
}

func TestClose_EndsConnectionsAndFloods(t *testing.T) {
	before := runtime.NumGoroutine()
	s := start(t, Options{})
	flooded, idle := connect(t, s, 1), connect(t, s, 0)
	run := flood(t, s, Flood{Messages: 2, QoS: 1})
	flooded.subscribe(1)
	flooded.next() // never answered, so the flood waits
	waiting := flood(t, s, Flood{Messages: 2})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	flooded.expectEnd()
	idle.expectEnd()
	for _, r := range []*Run{run, waiting} {
		if <-r.Done(); !errors.Is(r.Err(), net.ErrClosed) {
			t.Errorf("flood ended with %v, want net.ErrClosed", r.Err())
		}
	}
	if _, err := s.Flood(Flood{Messages: 1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Flood after Close: %v", err)
	}
	// The last instructions of goroutines for which Close has waited may still run.
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, runtime.NumGoroutine())
		}
	}
}

func TestNew_NamesTheAddressInUse(t *testing.T) {
	s := start(t, Options{})
	if _, err := New(Options{Addr: s.Addr()}); err == nil || !bytes.Contains([]byte(err.Error()), []byte(s.Addr())) {
		t.Errorf("got %v", err)
	}
}

// BenchmarkAcknowledge is the upper limit of any publishing benchmark: QoS 1, 256 bytes, and a
// client that writes prepared packets and only counts the bytes of the answers.
func BenchmarkAcknowledge(b *testing.B) {
	p := connect(b, start(b, Options{}), 0)
	const batch = 128
	packets := bytes.Repeat(publish(1, 1, 256), batch)
	answers := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, p.Conn)
		answers <- n
	}()
	b.ReportAllocs()
	var n int64
	for b.Loop() {
		if n%batch == 0 {
			if _, err := p.Write(packets); err != nil {
				b.Fatal(err)
			}
		}
		n++
	}
	n = (n + batch - 1) / batch * batch
	p.send([]byte{0xE0, 0}) // the server sends its remaining answers and closes
	if got := <-answers; got != 4*n {
		b.Fatalf("%d bytes of answers to %d messages", got, n)
	}
}

// sequence returns the number in a flooded message.
func sequence(payload []byte) uint64 { return binary.BigEndian.Uint64(payload) }
