package link

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// A probe sends a PINGREQ at once and waits for the answer for half the keep alive, at most 5
// seconds. After the answer, the keep alive continues as if it had sent the PINGREQ.
func TestProbe_SendsPingreqAtOnce(t *testing.T) {
	for keep, timeout := range map[uint16]time.Duration{4: 2 * time.Second, 30: 5 * time.Second, 3600: 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			r := run(t, keepAlive(keep))
			p, up := r.up(control.Connack{})
			interval := time.Duration(keep) * time.Second
			time.Sleep(interval / 4)
			for range 3 { // answered
				asked := time.Now()
				up.Probe()
				p.next(wire.PINGREQ)
				if d := time.Since(asked); d != 0 {
					t.Errorf("PINGREQ came after %v", d)
				}
				time.Sleep(timeout - time.Millisecond)
				p.send(control.AppendPingresp(nil))
			}
			answered := time.Now()
			p.next(wire.PINGREQ)
			if d := time.Since(answered); d != interval && d != interval-timeout+time.Millisecond {
				t.Errorf("the next PINGREQ came %v after the answer, the keep alive is %v", d, interval)
			}
			p.send(control.AppendPingresp(nil))
			time.Sleep(interval / 4)
			up.Probe()
			asked := time.Now()
			p.next(wire.PINGREQ) // not answered
			if err := <-r.downs; !errors.Is(err, ErrKeepAlive) {
				t.Errorf("got %v, want ErrKeepAlive", err)
			}
			if d := time.Since(asked); d != timeout {
				t.Errorf("noticed after %v, want %v", d, timeout)
			}
			r.end()
		})
	}
}

// A probe during an unanswered PINGREQ of the keep alive shortens the wait. Further probes do not
// extend it.
func TestProbe_WhilePingreqIsUnanswered(t *testing.T) {
	for name, tt := range map[string]struct {
		probes []time.Duration // after the keep alive's PINGREQ
		want   time.Duration
	}{
		"none":          {nil, 15 * time.Second},
		"soon":          {[]time.Duration{time.Second}, 6 * time.Second},
		"late":          {[]time.Duration{12 * time.Second}, 15 * time.Second},
		"several":       {[]time.Duration{time.Second, 3 * time.Second, 5 * time.Second}, 6 * time.Second},
		"all at a time": {[]time.Duration{time.Second, time.Second, time.Second, 1500 * time.Millisecond}, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := run(t, keepAlive(30))
				p, up := r.up(control.Connack{})
				p.next(wire.PINGREQ)
				asked := time.Now()
				go func() {
					for { // reads everything and answers nothing
						if _, err := p.r.Next(); err != nil {
							return
						}
					}
				}()
				for _, at := range tt.probes {
					time.Sleep(time.Until(asked.Add(at)))
					up.Probe()
				}
				if err := <-r.downs; !errors.Is(err, ErrKeepAlive) || time.Since(asked) != tt.want {
					t.Errorf("%v after %v, want ErrKeepAlive after %v", err, time.Since(asked), tt.want)
				}
				r.end()
			})
		})
	}
}

// With continuous calls, one PINGREQ is sent per second. The last call takes effect too.
func TestProbe_AtMostOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, keepAlive(3600))
		p, up := r.up(control.Connack{})
		began := time.Now()
		go func() {
			for time.Since(began) < 9500*time.Millisecond {
				up.Probe()
				time.Sleep(10 * time.Millisecond)
			}
		}()
		for i := range 11 {
			p.next(wire.PINGREQ)
			if d, want := time.Since(began), time.Duration(i)*time.Second; d != want {
				t.Errorf("PINGREQ %d after %v, want %v", i, d, want)
			}
			p.send(control.AppendPingresp(nil))
		}
		_ = p.SetReadDeadline(time.Now().Add(30 * time.Minute))
		if f, err := p.r.Next(); err == nil {
			t.Errorf("%v after the last probe", f.Type())
		}
		r.end()
	})
}

// Without keep alive, a probe sends nothing.
func TestProbe_DoesNothingWithoutKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, keepAlive(0))
		p, up := r.up(control.Connack{})
		for range 5 {
			up.Probe()
		}
		_ = p.SetReadDeadline(time.Now().Add(time.Hour))
		if f, err := p.r.Next(); err == nil {
			t.Errorf("got %v", f.Type())
		}
		r.end()
	})
}
