package interop

import (
	"fmt"
	"sync/atomic"

	"github.com/mooring-mqtt/mooring/client"
)

// traffic publishes continuously, at QoS 1 and 2 alternately, each on a separate topic. It is at
// most a given number of messages ahead of the acknowledgements.
type traffic struct {
	r         *run
	publisher *client.Client
	stopping  atomic.Bool
	ended     chan error
	accepted  [3]int // by QoS; valid after stop
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

// stop ends the publishing. Messages accepted before are still delivered.
func (t *traffic) stop() {
	t.r.Helper()
	t.stopping.Store(true)
	if err := <-t.ended; err != nil {
		t.r.Fatal(err)
	}
}
