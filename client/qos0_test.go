package client_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// A peer that reads nothing: Publish at QoS 0 fills the output, and then waits for its context. What it
// has taken until then is reported as lost when the connection ends, and nothing else.
func TestPublishQoS0_PeerThatReadsNothing(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var conn *stuckConn
		var events recorder
		c := mustNew(t, testConfig("c", &events, func() net.Conn {
			conn = &stuckConn{Conn: s.dial(), closed: make(chan struct{})}
			return conn
		}))
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		synctest.Wait()
		conn.stuck.Store(true)
		m := client.Message{Topic: "t", Payload: make([]byte, 1000)}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("enough"))
		defer cancel()
		began, taken := time.Now(), 0
		var err error
		for ; taken < 1000; taken++ {
			if _, err = c.Publish(ctx, m); err != nil {
				break
			}
		}
		if !errors.Is(err, context.Cause(ctx)) || time.Since(began) != time.Second || taken < 60 || taken > 140 {
			t.Errorf("after %v and %d messages: %v", time.Since(began), taken, err)
		}
		p.close()
		synctest.Wait()
		e := eventsOf[client.QoS0Lost](&events)
		if n := c.Stats().LostQoS0; n != uint64(taken) || len(e) != 1 || e[0].Messages != taken || e[0].Err == nil {
			t.Errorf("%d messages counted as lost, reported %+v, want %d", n, e, taken)
		}
		must(t, c.Close())
	})
}

// Messages of one caller arrive in order, whatever their QoS, and all of them before the DISCONNECT.
func TestPublishQoS0_CloseSendsWaitingMessages(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		start(t, c)
		p := s.accept(control.Connack{})
		connect(t, c)
		const count = 500
		for range count {
			publish(t, c, "t", "x", client.AtMostOnce)
		}
		must(t, c.Close())
		for range count {
			p.nextPublish()
		}
		if n := c.Stats().LostQoS0; n != 0 {
			t.Errorf("%d messages lost", n)
		}
	})
}
