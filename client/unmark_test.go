package client

import (
	"errors"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/persistence"
)

// overWriter is a connection that is over: before it takes anything, or while it
// writes.
type overWriter struct{ takes bool }

var errOver = errors.New("over")

func (w overWriter) Send(encode func([]byte) []byte) error {
	if w.takes {
		encode(nil)
	}
	return errOver
}

func (overWriter) Fail(error) {}

// What a connection did not take was not sent, so it comes without DUP later
// [MQTT-3.3.1-3]. Of what it took, nobody knows.
func TestWhatAConnectionDidNotTakeWasNotSent(t *testing.T) {
	for _, takes := range []bool{false, true} {
		cfg := testConfig("c", &recorder{}, nil)
		cfg.Store.Custom = persistence.NewMemory(persistence.Options{})
		c := mustNew(t, cfg)
		c.feed.begin(c.store)
		publish(t, c, "t", "x", AtLeastOnce)
		gen, err := c.session.Attach(overWriter{takes}, false, session.Limits{MaximumQoS: 2, RetainAvailable: true})
		must(t, err)
		up := &link.Up{Gen: gen}
		c.feed.connected(up, c.store)
		c.drainBatch(up)
		want := uint64(0)
		if takes {
			want = 1
		}
		if marked := c.store.Sent(Normal); marked == 0 || c.feed.sent()[Normal] != want {
			t.Errorf("taken: %v: sent up to %d, marked up to %d", takes, c.feed.sent()[Normal], marked)
		}
		c.unmark()
		if marked := c.store.Sent(Normal); marked != want {
			t.Errorf("taken: %v: marked up to %d", takes, marked)
		}
	}
}
