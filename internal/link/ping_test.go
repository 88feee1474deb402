package link

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

func keepAlive(seconds uint16) func(*Config) {
	return func(c *Config) { c.Connect.KeepAlive = seconds }
}

func TestKeepAlive_FailsWithoutPingresp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, keepAlive(10))
		p, _ := r.up(control.Connack{})
		began := time.Now()
		for i := range 3 {
			p.next(wire.PINGREQ)
			if got, want := time.Since(began), time.Duration(i+1)*10*time.Second; got != want {
				t.Errorf("PINGREQ %d after %v, want %v", i, got, want)
			}
			p.send(control.AppendPingresp(nil)) // in the same tick of the clock
		}
		p.next(wire.PINGREQ) // this one is not answered
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

func TestKeepAlive_UsesServerKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, keepAlive(100))
		p, _ := r.up(control.Connack{HasServerKeepAlive: true, ServerKeepAlive: 4})
		began := time.Now()
		p.next(wire.PINGREQ)
		if d := time.Since(began); d != 4*time.Second {
			t.Errorf("PINGREQ after %v, want 4s", d)
		}
		r.end()
	})
}

func TestKeepAlive_ZeroSendsNoPingreq(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, keepAlive(0))
		p, up := r.up(control.Connack{})
		_ = p.SetReadDeadline(time.Now().Add(24 * time.Hour))
		if f, err := p.r.Next(); err == nil {
			t.Errorf("got %v", f.Type())
		}
		if up.Uptime() < 24*time.Hour {
			t.Errorf("age %v", up.Uptime())
		}
		r.end()
	})
}

// Message packets in both directions replace PINGREQ. Packets in one direction only do not, because
// a link may fail in one direction.
func TestKeepAlive_TrafficDelaysPingreq(t *testing.T) {
	for name, tt := range map[string]struct {
		send, receive bool
		want          time.Duration
	}{
		"both ways": {true, true, 34 * time.Second},
		"out only":  {true, false, 10 * time.Second},
		"in only":   {false, true, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, keepAlive(10))
				p, up := r.up(control.Connack{})
				began := time.Now()
				traffic := func(on bool, send func() error) {
					for range 4 {
						time.Sleep(6 * time.Second)
						if on {
							if err := send(); err != nil {
								return
							}
						}
					}
				}
				var both sync.WaitGroup
				both.Go(func() {
					traffic(tt.send, func() error {
						return up.Send(func(dst []byte) []byte { return append(dst, 0x40, 2, 0, 1) })
					})
				})
				both.Go(func() {
					traffic(tt.receive, func() error { _, err := p.Write([]byte{0xD0, 0}); return err })
				})
				for {
					f, err := p.r.Next()
					if err != nil {
						t.Fatal(err)
					}
					if f.Type() == wire.PINGREQ {
						break
					}
				}
				if d := time.Since(began); d != tt.want {
					t.Errorf("PINGREQ after %v, want %v", d, tt.want)
				}
				r.end()
				_ = p.Close()
				both.Wait()
			})
		})
	}
}
