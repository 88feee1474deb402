package pump

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/dedupe"
	"github.com/mooring-mqtt/mooring/reliability"
)

// config is the configuration of the pump, with short timeouts and a log in the test's output.
func config(t *testing.T, server string) client.Config {
	return client.Config{
		Servers: []string{server}, ClientID: "pump", Dir: t.TempDir(),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Connection: client.ConnectionConfig{
			AckTimeout: 200 * time.Millisecond,                          // default 30 s
			Backoff:    reliability.Backoff{Max: 50 * time.Millisecond}, // default 1 minute
		},
	}
}

// start starts the pump and closes it when the test ends.
func start(t *testing.T, cfg client.Config) *Pump {
	t.Helper()
	p, err := Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReport_PubackLost(t *testing.T) {
	b := mqtttest.Start(t)
	lost := b.Next("pump", mqtttest.PUBACK).Swallow()
	p := start(t, config(t, b.URL()))
	d, err := p.Report(t.Context(), "1450")
	must(t, err)
	must(t, lost.Wait(t.Context()))
	_, err = d.Wait(t.Context())
	if err != nil || b.Stats().MessagesIn < 2 { // the same message, sent again
		t.Errorf("%v; the broker received %d messages, want 2 or more", err, b.Stats().MessagesIn)
	}
}

func TestReport_QuotaExceeded(t *testing.T) {
	b := mqtttest.Start(t)
	b.Next("pump", mqtttest.PUBACK).Refuse(0x97, "too many messages")
	p := start(t, config(t, b.URL()))
	d, err := p.Report(t.Context(), "1450")
	must(t, err)
	outcome, err := d.Wait(t.Context()) // the client publishes it again
	if err != nil || outcome.State != client.Acked {
		t.Errorf("%v %v, want acked", outcome.State, err)
	}
}

func TestReport_QuotaExceededForAWhile(t *testing.T) {
	b := mqtttest.Start(t)
	p := start(t, config(t, b.URL()))
	b.RefusePublishes("pump", 0x97, 500*time.Millisecond) // then the broker accepts again
	_, err := p.Report(t.Context(), "1450")
	must(t, err)
	m, err := b.WaitMessage(t.Context(), "pump/rpm")
	if err != nil || string(m.Payload) != "1450" || b.Stats().MessagesIn < 2 {
		t.Errorf("%q %v; the broker received %d messages, want 2 or more", m.Payload, err, b.Stats().MessagesIn)
	}
}

func TestSet_Forbidden(t *testing.T) {
	var allowed atomic.Bool
	b := mqtttest.Start(t, func(o *mqtttest.Options) {
		o.Authorize = func(_ context.Context, _, topic string, _ bool) byte {
			if topic == "pump/set" && !allowed.Load() {
				return 0x87
			}
			return 0
		}
	})
	p := start(t, config(t, b.URL()))
	var refused *client.RefusedError
	if err := p.Ready(t.Context()); !errors.As(err, &refused) || refused.Code != 0x87 {
		t.Errorf("got %v, want not authorized", err)
	}
	allowed.Store(true) // the client subscribes again by itself
	must(t, b.WaitSubscribed(t.Context(), "pump", "pump/set"))
}

func TestSet_Duplicate(t *testing.T) {
	b := mqtttest.Start(t)
	cfg := config(t, b.URL())
	handled, err := dedupe.OpenFile(filepath.Join(cfg.Dir, "handled"), dedupe.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, handled.Close()) })
	cfg.Receiving.Dedupe = handled
	p := start(t, cfg)
	must(t, p.Ready(t.Context()))
	for _, id := range []string{"a", "a", "b"} {
		_, err := b.Publish(mqtttest.Message{Topic: "pump/set", Payload: []byte(id), QoS: 1,
			User: []mqtttest.UserProperty{{Key: "m-id", Value: id}}}) // the message ID
		must(t, err)
	}
	must(t, b.WaitFor(t.Context(), func() bool { return len(b.Queue("pump")) == 0 }))
	if got := p.Speeds(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("the speeds are %q, want a and b once", got)
	}
}

func TestReport_LinkLost(t *testing.T) {
	b := mqtttest.Start(t)
	link := mqtttest.StartProxy(t, b.URL())
	p := start(t, config(t, link.URL()))
	must(t, p.Ready(t.Context()))
	link.Swallow() // the connection stays open, but nothing arrives
	_, err := p.Report(t.Context(), "1450")
	must(t, err)
	_, err = b.WaitMessage(t.Context(), "pump/rpm") // after AckTimeout, on a new connection
	must(t, err)
}

func TestSet_Once(t *testing.T) {
	b := mqtttest.Start(t)
	link := mqtttest.StartProxy(t, b.URL())
	p := start(t, config(t, link.URL()))
	must(t, b.WaitSubscribed(t.Context(), "pump", "pump/set"))
	link.Lose(mqtttest.ToServer, mqtttest.PUBREC) // the broker will send the command twice
	_, err := b.Publish(mqtttest.Message{Topic: "pump/set", Payload: []byte("1500"), QoS: 2})
	must(t, err)
	must(t, b.WaitFor(t.Context(), func() bool { return len(b.Queue("pump")) == 0 })) // completely acknowledged
	if got := p.Speeds(); !slices.Equal(got, []string{"1500"}) || link.Stats().Lost != 1 {
		t.Errorf("the speeds are %v, want 1500 once; %d packets were lost", got, link.Stats().Lost)
	}
}

func TestReport_BrokerKilled(t *testing.T) {
	dir := mqtttest.WithDir(t.TempDir())
	b := mqtttest.Start(t, dir)
	p := start(t, config(t, b.URL()))
	must(t, b.WaitConnected(t.Context(), "pump"))
	b.Kill()
	d, err := p.Report(t.Context(), "1450") // accepted without a broker
	must(t, err)
	b = mqtttest.Start(t, dir, func(o *mqtttest.Options) { o.Addr = b.Addr() })
	_, err = d.Wait(t.Context())
	must(t, err)
}

func TestReport_SurvivesRestart(t *testing.T) {
	b := mqtttest.Start(t)
	cfg := config(t, "mqtt://127.0.0.1:1") // no broker
	p, err := Start(t.Context(), cfg)
	must(t, err)
	_, err = p.Report(t.Context(), "1450")
	must(t, err)
	must(t, p.Close())

	cfg.Servers = []string{b.URL()}
	start(t, cfg) // the same folder
	must(t, b.WaitFor(t.Context(), func() bool { return b.Stats().MessagesIn > 0 }))
}

func TestSet_SessionLost(t *testing.T) {
	b := mqtttest.Start(t)
	p := start(t, config(t, b.URL()))
	must(t, b.WaitSubscribed(t.Context(), "pump", "pump/set"))
	b.DropSession("pump") // the broker forgets the subscription
	must(t, b.WaitSubscribed(t.Context(), "pump", "pump/set"))
	_, err := b.Publish(mqtttest.Message{Topic: "pump/set", Payload: []byte("1500"), QoS: 2})
	must(t, err)
	must(t, b.WaitFor(t.Context(), func() bool { return len(p.Speeds()) == 1 }))
}

func TestStatus_OfflineAfterAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the hour passes at once
		b := mqtttest.Start(t, func(o *mqtttest.Options) { o.NoTCP = true })
		var down atomic.Bool
		cfg := config(t, "mqtt://broker")
		cfg.Presence.Status = &client.Status{Topic: "pump/status", Delay: time.Hour}
		cfg.Connection.Dial = func(context.Context, *url.URL) (net.Conn, error) {
			if down.Load() {
				return nil, errors.New("no link")
			}
			return b.Dial(), nil
		}
		start(t, cfg)
		synctest.Wait() // all goroutines are idle: the pump is connected
		down.Store(true)
		b.Cut("pump")
		time.Sleep(59 * time.Minute)
		wantStatus(t, b, "online")
		time.Sleep(2 * time.Minute)
		wantStatus(t, b, "offline")
	})
}

func wantStatus(t *testing.T, b *mqtttest.Broker, want string) {
	t.Helper()
	if status, _ := b.Retained("pump/status"); string(status) != want {
		t.Errorf("the status is %q, want %q", status, want)
	}
}
