package client_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// hangDisk makes operations of a disk wait until the result is called.
func hangDisk(disk *faultfs.FS, kinds ...faultfs.Kind) (release func()) {
	c := make(chan struct{})
	disk.SetHang(func(op faultfs.Op) <-chan struct{} {
		for _, k := range kinds {
			if op.Kind == k {
				return c
			}
		}
		return nil
	})
	return func() {
		disk.SetHang(nil)
		close(c)
	}
}

// Publish returns when its context ends, or after WriteTimeout, while the disk hangs. The message is stored and
// delivered when the disk answers, and the Delivery in the error has its outcome.
func TestPublish_HonorsItsContextWhileTheDiskHangs(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Write, faultfs.Sync} {
		for _, qos := range []client.QoS{client.AtLeastOnce, client.ExactlyOnce} {
			for _, deadline := range []time.Duration{time.Second, 0} {
				inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
					disk := faultfs.New()
					cfg := testConfig("c", &recorder{}, through(p))
					cfg.Dir, cfg.Store.Options.FS, cfg.Store.Options.WriteTimeout = "log", disk, 7*time.Second
					c := mustStart(t, cfg)
					connect(t, c)
					wantState(t, publish(t, c, "t", "x", qos), client.Acked)
					synctest.Wait()
					release := hangDisk(disk, kind)
					ctx, want := t.Context(), cfg.Store.Options.WriteTimeout
					if deadline > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, deadline)
						defer cancel()
						want = deadline
					}
					began := time.Now()
					d, err := c.Publish(ctx, client.Message{Topic: "t", QoS: qos})
					unknown := (*client.OutcomeUnknownError)(nil)
					if took := time.Since(began); d != nil || !errors.As(err, &unknown) || !errors.Is(err, context.DeadlineExceeded) || reliability.SafeToRetry(err) || took != want {
						t.Fatalf("%v, QoS %d: %v after %v, want %v", kind, qos, err, took, want)
					}
					if deadline == 0 && !errors.As(err, new(*persistence.StalledError)) {
						t.Errorf("%v", err)
					}
					time.Sleep(time.Minute)
					if s := c.Stats().Store; s.Pending != 1 || unknown.Delivery.Outcome().State != client.Pending {
						t.Errorf("%+v, %+v", s, unknown.Delivery.Outcome())
					}
					release()
					wantState(t, unknown.Delivery, client.Acked)
					must(t, c.Drain(t.Context()))
				})
			}
		}
	}
}

// Close returns after CloseTimeout and a second while the disk or a handler hangs. The folder stays in use until
// the hang has ended.
func TestClose_ReturnsDuringEveryHang(t *testing.T) {
	for _, hang := range []string{"write", "sync", "handler"} {
		t.Run(hang, func(t *testing.T) {
			inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
				disk, stuck := faultfs.New(), make(chan struct{})
				cfg := testConfig("c", &recorder{}, through(p))
				cfg.Dir, cfg.Store.Options.FS, cfg.Connection.CloseTimeout = "log", disk, 2*time.Second
				c := mustStart(t, cfg)
				release := func() { close(stuck) }
				connect(t, c)
				switch hang {
				case "write":
					release = hangDisk(disk, faultfs.Write)
				case "sync":
					release = hangDisk(disk, faultfs.Sync)
				case "handler":
					must1(c.Subscribe(t.Context(), "in", client.AtLeastOnce, client.HandlerFunc(func(context.Context, *client.Message) error {
						<-stuck
						return nil
					})))
					publish(t, c, "in", "x", client.AtLeastOnce)
				}
				synctest.Wait()
				began := time.Now()
				err := c.Close()
				if took := time.Since(began); !errors.As(err, new(*client.CloseTimeoutError)) || !errors.Is(err, context.DeadlineExceeded) || took > 3*time.Second {
					t.Errorf("Close: %v after %v", err, took)
				}
				if _, err := client.New(cfg); !errors.Is(err, persistence.ErrLocked) {
					t.Errorf("a second client on the folder: %v", err)
				}
				release()
				<-c.Done()
				must(t, mustNew(t, cfg).Close())
			})
		})
	}
}

// With Block, Publish waits for a disk that hangs as long as its context lasts, before the message has its place.
func TestBlock_WaitsWhileTheDiskHangs(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		disk := faultfs.New()
		cfg := testConfig("c", &recorder{}, through(p))
		cfg.Dir, cfg.Store.WhenFull = "log", client.Block
		cfg.Store.Options.FS, cfg.Store.Options.WriteTimeout = disk, time.Second
		c := mustStart(t, cfg)
		connect(t, c)
		release := hangDisk(disk, faultfs.Sync)
		var stalled []*client.Delivery // they have their place in the log
		for range 2 {
			_, err := c.Publish(t.Context(), client.Message{Topic: "t", QoS: 1})
			unknown := (*client.OutcomeUnknownError)(nil)
			if !errors.As(err, &unknown) {
				break
			}
			stalled = append(stalled, unknown.Delivery)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := c.Publish(ctx, client.Message{Topic: "t", QoS: 1}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("Publish: %v after %v", err, time.Since(began))
		}
		time.AfterFunc(10*time.Second, release)
		wantState(t, publish(t, c, "t", "x", client.AtLeastOnce), client.Acked)
		for _, d := range stalled {
			wantState(t, d, client.Acked)
		}
		must(t, c.Drain(t.Context()))
	})
}

// A disk that does not answer for ten seconds: calls of Publish wait for it, and everything is delivered once.
func TestHang_TenSeconds(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		backend, got := mustNew(t, testConfig("backend", &recorder{}, b.Dial)), newInbox()
		start(t, backend)
		connect(t, backend) // otherwise Subscribe does not wait for the server
		must1(backend.Subscribe(t.Context(), "up", client.ExactlyOnce, got))
		disk, events, received := faultfs.New(), recorder{}, newInbox()
		cfg := testConfig("device", &events, through(p))
		cfg.Dir, cfg.Store.Options.FS = "log", disk
		device := mustStart(t, cfg)
		connect(t, device)
		must1(device.Subscribe(t.Context(), "down", client.ExactlyOnce, received))
		release := hangDisk(disk, faultfs.Create, faultfs.Write, faultfs.Sync, faultfs.SyncDir)
		began := time.Now()
		time.AfterFunc(10*time.Second, release)
		const n = 20
		results := make(chan error, n)
		for i := range n {
			go func() {
				_, err := device.Publish(context.Background(), client.Message{Topic: "up", QoS: client.QoS(1 + i%2)})
				results <- err
			}()
			must1(b.Publish(mqtttest.Message{Topic: "down", QoS: byte(1 + i%2)}))
		}
		for range n {
			must(t, <-results)
		}
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("the calls took %v", took)
		}
		got.await(t, n)
		received.await(t, n)
		must(t, device.Drain(t.Context()))
		must(t, backend.Close())
		if n := device.Stats().Connections; n != 1 {
			t.Errorf("%d connections were made, want 1", n)
		}
	})
}

// Queries that time out while the disk hangs do not add goroutines without a limit.
func TestReceipt_LimitsGoroutinesWhileTheDiskHangs(t *testing.T) {
	inBubble(t, mqtttest.Options{}, func(t *testing.T, b *mqtttest.Broker, p *mqtttest.Proxy) {
		disk := faultfs.New()
		cfg := testConfig("c", &recorder{}, through(p))
		cfg.Dir, cfg.Store.Options.FS = "log", disk
		c := mustStart(t, cfg)
		p.Refuse(true)
		d := publish(t, c, "t", "x", client.AtLeastOnce)
		release := hangDisk(disk, faultfs.Read, faultfs.Open)
		query := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _, err := c.Receipt(ctx, d.ID)
			return err
		}
		for range 10 {
			if err := query(); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Receipt: %v", err)
			}
		}
		before := runtime.NumGoroutine()
		for range 90 {
			if err := query(); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Receipt: %v", err)
			}
		}
		if after := runtime.NumGoroutine(); after > before+5 {
			t.Errorf("%d goroutines, %d after 90 further queries", before, after)
		}
		release()
		must(t, query())
		p.Refuse(false)
		wantState(t, d, client.Acked)
	})
}
