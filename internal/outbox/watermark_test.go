package outbox_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/mooring-mqtt/mooring/internal/outbox"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// A message that the connection did not accept was not sent, so it is sent without DUP later
// [MQTT-3.3.1-3]. A message that it accepted may have arrived.
func TestClose_LowersTheWatermark(t *testing.T) {
	for name, tt := range map[string]struct {
		over, breaks bool
		want         uint64
	}{
		"the connection takes nothing":      {over: true, want: 0},
		"the connection ends while it does": {breaks: true, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
				w := r.add(message(1, 1))
				r.attach(false, session.Limits{})
				r.c.over, r.c.breaks = tt.over, tt.breaks
				r.o.Connected(r.g)
				synctest.Wait()
				if r.store.Sent(persistence.Normal) == 0 {
					t.Error("the store does not know that the message may be sent")
				}
				r.cut(0)
				r.stop()
				r.o.Close(errors.New("closed"))
				if got := r.store.Sent(persistence.Normal); got != tt.want {
					t.Errorf("the watermark is %d, want %d", got, tt.want)
				}
				wantState(t, w, outbox.Abandoned)
			})
		})
	}
}

// The send loop raises the watermark while the session is lost. The watermark then covers no
// message of the next session.
func TestRun_WatermarkOfALostSessionIsVoid(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, outbox.Config{}, persistence.NewMemory(persistence.Options{}))
		r.connect(false, session.Limits{})
		r.add(message(1, 1))
		r.want("1")
		r.cut(0)
		r.attach(false, session.Limits{})
		if err := r.store.SetSent(persistence.Normal, 1); err != nil {
			t.Fatal(err)
		}
		r.o.Connected(r.g)
		r.want("1") // without DUP
	})
}
