package client_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/ackserver"
	"github.com/mooring-mqtt/mooring/persistence"
)

// The benchmarks compare mooring with paho.golang in one run, against a server that only
// acknowledges. The unit is acknowledged messages. "x-paho" is the ratio to paho.golang, measured
// directly before. "x-disk" is the ratio to the maximum rate of the disk.

const publishers = 64

var payload = make([]byte, 256)

// BenchmarkPublish publishes in 64 goroutines. In one variant each waits for every message, like
// paho.golang's Publish. In the other, each keeps its Deliveries and waits at the end.
func BenchmarkPublish(b *testing.B) {
	for _, qos := range []byte{1, 2} {
		b.Run(fmt.Sprintf("QoS=%d", qos), func(b *testing.B) {
			var base float64
			b.Run("paho", func(b *testing.B) { base = publishPaho(b, qos) })
			for _, store := range []string{"memory", "disk"} {
				for _, later := range []bool{false, true} {
					name := "one-by-one"
					if later {
						name = "awaited-later"
					}
					b.Run(store+"/"+name, func(b *testing.B) {
						rate := publishMooring(b, qos, store, later)
						b.ReportMetric(rate/base, "x-paho")
						if store == "disk" {
							b.ReportMetric(rate/diskRate(b), "x-disk")
						}
					})
				}
			}
		})
	}
}

// BenchmarkPublishQoS0 publishes in one goroutine. The time ends when the server has received all
// messages.
func BenchmarkPublishQoS0(b *testing.B) {
	var base float64
	b.Run("paho", func(b *testing.B) {
		s := server(b)
		c := connectPaho(b, s.Addr(), paho.ClientConfig{})
		defer c.Disconnect(&paho.Disconnect{})
		base = qos0(b, s, func() error {
			_, err := c.Publish(context.Background(), &paho.Publish{Topic: "bench/topic", Payload: payload})
			return err
		})
	})
	b.Run("mooring", func(b *testing.B) {
		s := server(b)
		c := newClient(b, s.Addr(), "memory")
		if err := c.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if err := c.AwaitConnection(b.Context()); err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		rate := qos0(b, s, func() error {
			_, err := c.Publish(ctx, client.Message{Topic: "bench/topic", Payload: payload})
			return err
		})
		b.ReportMetric(rate/base, "x-paho")
	})
}

func qos0(b *testing.B, s *ackserver.Server, publish func() error) float64 {
	b.ReportAllocs()
	b.ResetTimer()
	begin := time.Now()
	for range b.N {
		if err := publish(); err != nil {
			b.Fatal(err)
		}
	}
	for s.Received() < int64(b.N) {
		time.Sleep(time.Millisecond / 10)
	}
	return report(b, begin)
}

// BenchmarkReceive floods a subscriber. Both sides allow 65,535 messages in flight. The handler
// counts messages.
func BenchmarkReceive(b *testing.B) {
	for _, qos := range []byte{1, 2} {
		b.Run(fmt.Sprintf("QoS=%d", qos), func(b *testing.B) {
			var base float64
			b.Run("paho", func(b *testing.B) { base = receivePaho(b, qos) })
			for _, store := range []string{"memory", "disk"} {
				b.Run(store, func(b *testing.B) {
					rate := receiveMooring(b, qos, store)
					b.ReportMetric(rate/base, "x-paho")
				})
			}
		})
	}
}

// diskRate returns the maximum rate for publishers that each wait for their message: one fsync per
// batch of all of them. "x-disk" is the ratio to it.
func diskRate(b *testing.B) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "batches"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const batches = 300
	batch := make([]byte, publishers*(len(payload)+80))
	begin := time.Now()
	for range batches {
		if _, err := f.Write(batch); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	return publishers * batches / time.Since(begin).Seconds()
}

// spread calls each b.N times, distributed over the publishers' goroutines, and returns the rate.
func spread(b *testing.B, each func(n int)) float64 {
	b.ReportAllocs()
	b.ResetTimer()
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range publishers {
		n := b.N / publishers
		if i < b.N%publishers {
			n++
		}
		wg.Go(func() { each(n) })
	}
	wg.Wait()
	return report(b, begin)
}

func report(b *testing.B, begin time.Time) float64 {
	b.StopTimer()
	rate := float64(b.N) / time.Since(begin).Seconds()
	b.ReportMetric(rate, "msg/s")
	return rate
}

func server(b *testing.B) *ackserver.Server {
	s, err := ackserver.New(ackserver.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s
}

func connectPaho(b *testing.B, addr string, conf paho.ClientConfig) *paho.Client {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	conf.Conn = conn
	c := paho.NewClient(conf)
	if _, err := c.Connect(b.Context(), &paho.Connect{ClientID: "paho", CleanStart: true, KeepAlive: 60}); err != nil {
		b.Fatal(err)
	}
	return c
}

func publishPaho(b *testing.B, qos byte) float64 {
	c := connectPaho(b, server(b).Addr(), paho.ClientConfig{})
	defer c.Disconnect(&paho.Disconnect{})
	return spread(b, func(n int) {
		for range n {
			if _, err := c.Publish(context.Background(), &paho.Publish{Topic: "bench/topic", QoS: qos, Payload: payload}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func newClient(b *testing.B, addr, store string) *client.Client {
	cfg := client.Config{Servers: []string{"mqtt://" + addr}, ClientID: "mooring", Receiving: client.ReceivingConfig{ReceiveMaximum: 65_535}, Store: client.StoreConfig{Options: persistence.Options{Limits: persistence.Limits{MaxMessages: 50_000_000, MaxBytes: 64 << 30}}}}
	if store == "disk" {
		cfg.Dir = b.TempDir()
	}
	c, err := client.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func publishMooring(b *testing.B, qos byte, store string, later bool) float64 {
	c := newClient(b, server(b).Addr(), store)
	if err := c.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.AwaitConnection(b.Context()); err != nil {
		b.Fatal(err)
	}
	return spread(b, func(n int) {
		var open []*client.Delivery
		for range n {
			d, err := c.Publish(context.Background(), client.Message{Topic: "bench/topic", QoS: client.QoS(qos), Payload: payload})
			if err != nil {
				b.Error(err)
				return
			}
			if open = append(open, d); later && len(open) < 1000 {
				continue
			}
			if !wait(b, open) {
				return
			}
			open = open[:0]
		}
		wait(b, open)
	})
}

func wait(b *testing.B, open []*client.Delivery) bool {
	for _, d := range open {
		if _, err := d.Wait(context.Background()); err != nil {
			b.Error(err)
			return false
		}
	}
	return true
}

var topics = []string{"bench/a", "bench/b", "bench/c", "bench/d"}

// flood makes the server send b.N messages to the next subscriber. It returns the rate when all are
// acknowledged.
func flood(b *testing.B, s *ackserver.Server, qos byte, received *atomic.Int64) float64 {
	b.ReportAllocs()
	b.ResetTimer()
	begin := time.Now()
	run, err := s.Flood(ackserver.Flood{Messages: b.N, QoS: qos, PayloadSize: len(payload), Topics: topics})
	if err != nil {
		b.Fatal(err)
	}
	<-run.Done()
	rate := report(b, begin)
	if err := run.Err(); err != nil {
		b.Fatal(err)
	}
	if got := received.Load(); got != int64(b.N) {
		b.Fatalf("handled %d messages of %d", got, b.N)
	}
	return rate
}

func receivePaho(b *testing.B, qos byte) float64 {
	s := server(b)
	var received atomic.Int64
	c := connectPaho(b, s.Addr(), paho.ClientConfig{OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(paho.PublishReceived) (bool, error) { received.Add(1); return true, nil },
	}})
	defer c.Disconnect(&paho.Disconnect{})
	if _, err := c.Subscribe(b.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "bench/#", QoS: qos}}}); err != nil {
		b.Fatal(err)
	}
	return flood(b, s, qos, &received)
}

func receiveMooring(b *testing.B, qos byte, store string) float64 {
	s := server(b)
	c := newClient(b, s.Addr(), store)
	var received atomic.Int64
	count := client.HandlerFunc(func(context.Context, *client.Message) error { received.Add(1); return nil })
	if err := c.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.AwaitConnection(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := c.Subscribe(b.Context(), "bench/#", client.QoS(qos), count); err != nil {
		b.Fatal(err)
	}
	return flood(b, s, qos, &received)
}
