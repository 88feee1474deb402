package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/faultfs"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// A message that is redelivered and given up again needs no room that it does not have already.
func TestSetAside_SetsAsideAgainInFullList(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		withAside(&cfg)
		cfg.Receiving.SetAside.MaxMessages = 1
		c := mustNew(t, cfg)
		in := newInbox()
		must(t, c.Handle("t", client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			if string(m.Payload) == "x" {
				return client.Permanent(errors.New("no"))
			}
			return in.Handle(ctx, m)
		})))
		start(t, c)
		p := s.accept(control.Connack{})
		p.publish(appMessage(1, 1, "x"))
		p.nextAck(wire.PUBACK)
		must(t, c.SetAside().Redeliver(1))
		p.publish(appMessage(2, 1, "y"))
		time.Sleep(time.Minute)
		wantHandled(t, in, "y")
		wantListed(t, c, "x")
		synctest.Wait()
		for m, err := range c.SetAside().All() {
			must(t, err)
			must(t, c.SetAside().Redeliver(m.ID))
		}
		must(t, c.Close())
	})
}

// Discarded messages leave nothing behind.
func TestSetAside_DiscardsMessageWithoutHandler(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		withAside(&cfg)
		cfg.Receiving.UnhandledGrace = client.NoGrace
		c := mustNew(t, cfg)
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		for i := range uint16(20) {
			p.publish(appMessage(i+1, 1, fmt.Sprint(i)))
			p.nextAck(wire.PUBACK)
		}
		for m, err := range c.SetAside().All() {
			must(t, err)
			must(t, c.SetAside().Discard(m.ID))
		}
		must(t, c.Handle("#", newInbox()))
		synctest.Wait()
		if e := eventsOf[client.StoreFailed](&events); len(e) > 0 {
			t.Errorf("%d reported, such as %+v", len(e), e[0])
		}
		must(t, c.Close())
	})
}

// Discard also ends the attempts of a message that is being redelivered.
func TestSetAside_DiscardsMessageDuringRedelivery(t *testing.T) {
	in := newInbox()
	receiving(t, withAside, nil, func(t *testing.T, c *client.Client, p *peer, events *recorder) {
		first := true
		must(t, c.Handle("t", client.HandlerFunc(func(ctx context.Context, m *client.Message) error {
			switch {
			case string(m.Payload) != "x":
				return in.Handle(ctx, m)
			case first:
				first = false
				return client.Permanent(errors.New("no"))
			}
			return errors.New("no")
		})))
		p.publish(appMessage(1, 1, "x"))
		p.nextAck(wire.PUBACK)
		must(t, c.SetAside().Redeliver(1))
		time.Sleep(time.Second)
		p.publish(appMessage(2, 1, "y"))
		time.Sleep(time.Minute)
		wantHandled(t, in)
		must(t, c.SetAside().Discard(1))
		p.nextAck(wire.PUBACK)
		wantHandled(t, in, "y")
		wantListed(t, c)
	})
}

// A message fits into the list beside a filter as long as its topic.
func TestSetAside_AcceptsLongTopics(t *testing.T) {
	topic := strings.Repeat("t", 60_000)
	receiving(t, func(cfg *client.Config) {
		withAside(cfg)
		cfg.Connection.MaximumPacketSize = 64 << 10
	}, nil, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		must(t, c.Handle(topic, client.HandlerFunc(func(context.Context, *client.Message) error { return client.Permanent(errors.New("no")) })))
		p.publish(wire.Publish{Topic: topic, QoS: 1, PacketID: 1, Payload: []byte("x")})
		p.nextAck(wire.PUBACK)
		wantListed(t, c, "x")
	})
}

// A full disk holds messages back until it has room again.
func TestSetAside_ContinuesAfterFullDisk(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		disk := faultfs.New()
		cfg.Dir, cfg.Store.Options.FS = "log", disk
		c := mustNew(t, cfg)
		must(t, c.Handle("t", client.HandlerFunc(func(context.Context, *client.Message) error { return client.Permanent(errors.New("no")) })))
		start(t, c)
		p := s.accept(control.Connack{})
		p.publish(appMessage(1, 1, "x"))
		p.nextAck(wire.PUBACK)
		disk.SetFault(func(op faultfs.Op) (int, error) {
			if strings.Contains(op.Name, "received") {
				return 0, syscall.ENOSPC
			}
			return op.Len, nil
		})
		p.publish(appMessage(2, 1, "y"))
		time.Sleep(time.Minute)
		p.quiet()
		disk.SetFault(nil)
		time.Sleep(10 * time.Minute)
		wantListed(t, c, "x", "y")
		if e := eventsOf[client.StoreFailed](&events); len(e) == 0 || !errors.Is(e[0].Err, syscall.ENOSPC) {
			t.Errorf("reported %+v", e)
		}
		must(t, c.SetAside().Discard(1))
		wantListed(t, c, "y")
		must(t, c.Close())
	})
}
