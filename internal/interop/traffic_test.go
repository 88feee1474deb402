package interop

import (
	"fmt"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/client"
)

// traffic publishes without a pause, QoS 1 and 2 in turn, each on a topic of
// its own, at most so many messages ahead of what is acknowledged.
type traffic struct {
	r         *run
	publisher *client.Client
	stopping  atomic.Bool
	ended     chan error
	accepted  [3]int // per QoS; to be read after stop
}

const trafficAhead = 40

func (r *run) traffic(publisher *client.Client) *traffic {
	t := &traffic{r: r, publisher: publisher, ended: make(chan error, 1)}
	go func() { t.ended <- t.publish() }()
	return t
}

func (t *traffic) topic(qos client.QoS) string { return t.r.topic(fmt.Sprintf("traffic/%d", qos)) }

func (t *traffic) publish() error {
	var open []*client.Delivery
	for i := 0; !t.stopping.Load(); i++ {
		if len(open) == trafficAhead {
			if _, err := open[0].Wait(t.r.ctx); err != nil {
				return err
			}
			open = open[1:]
		}
		qos := client.QoS(1 + i%2)
		d, err := t.publisher.Publish(t.r.ctx, client.Message{Topic: t.topic(qos), Payload: []byte(numbered(t.accepted[qos])), QoS: qos})
		if err != nil {
			return err
		}
		t.accepted[qos]++
		open = append(open, d)
	}
	return nil
}

// stop ends the publishing. What was accepted by then goes on.
func (t *traffic) stop() {
	t.r.Helper()
	t.stopping.Store(true)
	if err := <-t.ended; err != nil {
		t.r.Fatal(err)
	}
}
