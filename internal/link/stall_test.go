package link

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// A PINGREQ sent before or during a stall is not counted against the server when the stall ends.
// The client sends another one as usual.
func TestKeepAlive_AfterAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up *Up
		var ready atomic.Bool
		wake, ended := make(chan struct{}, 1), make(chan bool, 1)
		r := run(t, func(c *Config) {
			keepAlive(10)(c)
			c.Session = session.New(session.Config{Store: noStore{}, Settled: func(uint64, byte, string) {},
				Deliver: func(*session.Inbound, string, wire.PublishView) { ended <- up.Stall(time.Hour, wake, ready.Load) }})
		})
		p, is := r.up(control.Connack{})
		up = is
		p.send(wire.AppendPublish(nil, &wire.Publish{Topic: "a"}))
		p.next(wire.PINGREQ)
		time.Sleep(5*time.Second - 1)
		ready.Store(true)
		wake <- struct{}{}
		if !<-ended {
			t.Fatal("Stall gave up")
		}
		p.next(wire.PINGREQ)
		asked := time.Now()
		if err := <-r.downs; !errors.Is(err, ErrKeepAlive) {
			t.Errorf("got %v, want ErrKeepAlive", err)
		}
		if d := time.Since(asked); d != 5*time.Second {
			t.Errorf("noticed after %v, want half the keep alive", d)
		}
		r.end()
	})
}
