package client_test

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// recovery measures how long a client is disconnected after its link was cut, in addition to the delay
// before the next attempt.
type recovery struct {
	client *client.Client
	link   *mqtttest.Proxy
	events chan timed
	down   time.Time
	delay  time.Duration
}

// timed is an event with the time of its delivery.
type timed struct {
	client.Event
	at time.Time
}

// newRecovery connects a client through sockets of this machine, with a subscription
// and a session, so that there is something to restore.
func newRecovery(t testing.TB) *recovery {
	b := mqtttest.Start(t)
	r := &recovery{link: mqtttest.StartProxy(t, b.URL()), events: make(chan timed, 16)}
	r.client = mustNew(t, client.Config{
		Servers:  []string{r.link.URL()},
		ClientID: "c",
		Connection: client.ConnectionConfig{
			Backoff:     reliability.Backoff{Min: 2 * time.Millisecond, Max: 2 * time.Millisecond},
			StableAfter: time.Nanosecond,
		},
		OnEvent: func(e client.Event) {
			switch e.(type) {
			case client.Connected, client.ConnectFailed, client.Disconnected:
				r.events <- timed{e, time.Now()}
			}
		},
	})
	must(t, r.client.Handle("#", newInbox()))
	start(t, r.client)
	r.await(t)
	return r
}

// await returns when the client is connected, and how long it was away beyond the
// delays.
func (r *recovery) await(t testing.TB) time.Duration {
	for {
		select {
		case told := <-r.events:
			switch e := told.Event.(type) {
			case client.Connected:
				return told.at.Sub(r.down) - r.delay
			case client.Disconnected:
				r.down, r.delay = told.at, e.Delay
			case client.ConnectFailed:
				r.delay += e.Delay
			}
		case <-t.Context().Done():
			t.Fatal("it does not come back")
		}
	}
}

// cut cuts the link and returns how long the client was away beyond the delay, with a
// message acknowledged on the new connection.
func (r *recovery) cut(t testing.TB) time.Duration {
	r.link.Cut()
	took := r.await(t)
	wantState(t, publish(t, r.client, "t", "x", client.AtLeastOnce), client.Acked)
	return took
}

// bare is what a CONNECT takes on the same way in this moment, from the dial to its
// CONNACK, without a mooring client.
func (r *recovery) bare(t testing.TB) time.Duration {
	began := time.Now()
	nc, err := net.Dial("tcp", r.link.Addr())
	must(t, err)
	defer nc.Close()
	must(t, nc.SetDeadline(began.Add(time.Minute)))
	_, err = nc.Write(control.AppendConnect(nil, &control.Connect{ClientID: "bare", CleanStart: true}))
	must(t, err)
	_, err = wire.NewReader(nc, 0).Next()
	must(t, err)
	return time.Since(began)
}

// After a cut on this machine a client is back within 5 ms of the delay that it is
// told to wait, in the median of 200. A bare CONNECT takes a fifth of a millisecond;
// where it takes much more, the machine is busy with other things, and the client may
// take ten times as long as that.
func TestRecover_Time(t *testing.T) {
	const limit, share = 5 * time.Millisecond, 10
	var took, bare time.Duration
	for range 3 {
		r := newRecovery(t)
		var all, yardstick []time.Duration
		for range 200 {
			all = append(all, r.cut(t))
			yardstick = append(yardstick, r.bare(t))
		}
		must(t, r.client.Close())
		slices.Sort(all)
		slices.Sort(yardstick)
		took, bare = all[len(all)/2], yardstick[len(all)/2]
		t.Logf("back after the delay and %v in the median, %v to %v for nine of ten; a bare CONNECT takes %v", took, all[len(all)/20], all[len(all)*19/20], bare)
		if all[0] < -limit { // OnEvent is called a moment after each event, so it may be a little less than the delay
			t.Fatalf("it did not wait: %v", all[0])
		}
		if took < max(limit, share*bare) {
			return
		}
	}
	t.Errorf("the median is %v, want below %v, or %d times the %v of a bare CONNECT", took, limit, share, bare)
}

// BenchmarkRecover is a cut and the return from it, the delay of 2 ms included;
// recover-µs is the return without it.
func BenchmarkRecover(b *testing.B) {
	r := newRecovery(b)
	var sum time.Duration
	n := 0
	for b.Loop() {
		sum += r.cut(b)
		n++
	}
	b.ReportMetric(float64(sum.Microseconds())/float64(n), "recover-µs")
	must(b, r.client.Close())
}
