package mqtttest

import (
	"net"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// benchConn is a connection to b after CONNACK, without goroutines.
func benchConn(b *testing.B, broker *Broker, clientID string) (net.Conn, *wire.Reader) {
	nc, err := net.Dial("tcp", broker.Addr())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = nc.Close() })
	r := wire.NewReader(nc, 0)
	ask(b, nc, r, control.AppendConnect(nil, &control.Connect{ClientID: clientID, CleanStart: true, SessionExpiry: 60}))
	return nc, r
}

func ask(b *testing.B, nc net.Conn, r *wire.Reader, packet []byte) {
	if _, err := nc.Write(packet); err != nil {
		b.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		b.Fatal(err)
	}
}

// One publisher, one subscriber, 256 bytes, acknowledged on both sides; the
// clients are bare loops in the same process and share its two ends.
func benchmarkThrough(b *testing.B, o Options, qos byte) {
	broker, err := New(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = broker.Close() })
	pub, acks := benchConn(b, broker, "p")
	sub, in := benchConn(b, broker, "c")
	ask(b, sub, in, control.AppendSubscribe(nil, &control.Subscribe{PacketID: 1, Subscriptions: []control.Subscription{{Filter: "a/b", QoS: qos}}}))

	const batch, window = 64, 4096
	n := 0
	slots := make(chan struct{}, window/batch)
	received := make(chan int)
	go func() { // the subscriber
		defer close(received)
		var out []byte
		for count := 0; ; {
			f, err := in.Next()
			if err != nil {
				return
			}
			if v, _ := wire.ParsePublish(f); v.QoS > 0 {
				out = wire.AppendAck(out, wire.Ack{Type: wire.PUBACK, PacketID: v.PacketID})
			}
			if in.Buffered() < 300 || len(out) > 4096 {
				_, _ = sub.Write(out)
				out = out[:0]
			}
			if count++; count%batch == 0 {
				received <- batch
			}
		}
	}()
	done := make(chan struct{})
	go func() { // the publisher's acknowledgements
		defer close(done)
		for {
			if _, err := acks.Next(); err != nil {
				return
			}
		}
	}()
	p := wire.Publish{Topic: "a/b", QoS: qos, Payload: make([]byte, 256)}
	go func() {
		var id uint16
		for range slots {
			var buf []byte
			for range batch {
				if qos > 0 {
					if id++; id == 0 {
						id = 1
					}
					p.PacketID = id
				}
				buf = wire.AppendPublish(buf, &p)
			}
			_, _ = pub.Write(buf)
		}
	}()
	start := time.Now()
	for range cap(slots) {
		slots <- struct{}{}
	}
	for b.Loop() { // one iteration is one batch
		n += <-received
		slots <- struct{}{}
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "msg/s")
	b.ReportMetric(0, "ns/op")
	_ = pub.Close()
	<-done
	_ = sub.Close()
	close(slots)
	for range received { // until the subscriber is gone
	}
}

func BenchmarkQoS0(b *testing.B)        { benchmarkThrough(b, Options{}, 0) }
func BenchmarkQoS1(b *testing.B)        { benchmarkThrough(b, Options{}, 1) }
func BenchmarkQoS1Journal(b *testing.B) { benchmarkThrough(b, Options{Dir: b.TempDir()}, 1) }
func BenchmarkQoS1Sync(b *testing.B)    { benchmarkThrough(b, Options{Dir: b.TempDir(), Sync: true}, 1) }
