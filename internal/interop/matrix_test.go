package interop

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/internal/ostest"
)

// TestMatrix makes every client publish to every other one through every broker, in all the ways
// listed in matrixRows. A deviation from MQTT 5 is a failure, unless the row knows it. Known
// deviations are listed in docs/interop.md, which this test writes with -update-docs.
func TestMatrix(t *testing.T) {
	js, noJS := startMQTTJS(t)
	paho, noPaho := startPaho(t)
	parties := []party{mooring, theirs(mqttjsName, js, noJS), theirs(pahoName, paho, noPaho)}
	need := setup{maximumPacketSize: serverMaximum, large: true}
	m := &matrix{parties: parties, marks: map[[3]string]string{}}
	for _, b := range []struct {
		name  string
		start func(*testing.T) broker
	}{
		{"mqtttest", func(t *testing.T) broker { return startOurs(t, need) }},
		{"mosquitto", func(t *testing.T) broker {
			requireProgram(t, "mosquitto")
			m.mosquitto = mosquittoVersion(t)
			return startMosquitto(t, need)
		}},
	} {
		t.Run(b.name, func(t *testing.T) {
			broker := b.start(t)
			for _, pub := range parties {
				for _, sub := range parties {
					t.Run(column(pub, sub), func(t *testing.T) { m.runCell(t, broker, b.name, pub, sub) })
				}
			}
		})
	}
	m.document(t)
}

// matrix is the result.
type matrix struct {
	parties   []party
	mosquitto string               // version of mosquitto
	marks     map[[3]string]string // deviations by broker, row and column; empty: none
}

func column(pub, sub party) string { return pub.name + " → " + sub.name }

// rowTimeout is the maximum time for one row of a cell. Only failures use all of it.
const rowTimeout = 40 * time.Second

// cell is one publisher and one subscriber on a broker. In runRow it is also one row.
type cell struct {
	*run
	parties               []party
	pub, sub              party
	publisher, subscriber endpoint
	marked                string
	due                   map[string]int // total number of messages per topic that the subscriber must get
}

func (m *matrix) runCell(t *testing.T, b broker, name string, pub, sub party) {
	for _, p := range []party{pub, sub} {
		if p.missing != nil {
			ostest.Missing(t, requirePeers, fmt.Sprintf("%s: %v", p.name, p.missing))
		}
	}
	r := newRun(t, b)
	c := &cell{run: r, parties: m.parties, pub: pub, sub: sub, due: map[string]int{}}
	c.publisher, c.subscriber = c.dial(pub, "pub", dialing{}), c.dial(sub, "sub", dialing{})
	for i, row := range matrixRows {
		t.Run(row.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), rowTimeout)
			defer cancel()
			c := *c
			c.run = &run{T: t, ctx: ctx, broker: b, name: fmt.Sprintf("%s%d", r.name, i), retained: r.retained, sessions: r.sessions}
			row.run(&c)
			if t.Failed() {
				return
			}
			m.marks[[3]string{name, row.name, column(pub, sub)}] = c.marked
			if note := c.marked; note != "" {
				t.Log(note)
			}
		})
		if t.Failed() {
			return // late messages or duplicates would affect the next rows
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), rowTimeout)
	defer cancel()
	r.ctx = ctx
	c.expectNoMore()
}

// dial connects a client that ends with the cell or row.
func (c *cell) dial(p party, name string, o dialing) endpoint {
	c.Helper()
	e, err := p.dial(c, name, o)
	if err != nil {
		c.Fatalf("%s does not connect: %v", p.name, err)
	}
	c.Cleanup(func() {
		// The context of the cell has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := e.End(ctx); err != nil {
			c.Error(err)
		}
	})
	return e
}

// departs records a deviation of a client or broker from MQTT 5.
func (c *cell) departs(format string, args ...any) { c.marked = fmt.Sprintf(format, args...) }

func (c *cell) subscribe(s subscribing) {
	c.Helper()
	if err := c.subscriber.Subscribe(c.ctx, s); err != nil {
		c.Fatalf("%s subscribes to %s: %v", c.sub.name, s.filter, err)
	}
}

func (c *cell) publish(list ...packet) {
	c.Helper()
	if err := c.publisher.Publish(c.ctx, list...); err != nil {
		c.Fatalf("%s publishes: %v", c.pub.name, err)
	}
}

// arrived waits until the subscriber has n messages of this row and returns them.
func (c *cell) arrived(n int) []received {
	c.Helper()
	return c.arrivedAt(c.subscriber, n)
}

func (c *cell) arrivedAt(e endpoint, n int) (own []received) {
	c.Helper()
	e.Received().await(c.run, fmt.Sprintf("%d messages of this row", n), func(all []received) bool {
		own = nil
		for _, got := range all {
			if strings.HasPrefix(got.Topic, c.topic("")) {
				own = append(own, got)
			}
		}
		return len(own) >= n
	})
	return own
}

// expects records messages that the subscriber must get, for expectNoMore.
func (c *cell) expects(list ...received) {
	for _, got := range list {
		c.due[got.Topic]++
	}
}

// expectNoMore checks that the subscriber has got no duplicates and no other messages at the end.
func (c *cell) expectNoMore() {
	c.Helper()
	fence := c.topic("fence")
	c.subscribe(subscribing{filter: fence, qos: 2})
	c.publish(packet{Topic: fence, QoS: 2})
	c.expects(c.arrived(1)...)
	all, _ := c.subscriber.Received().snapshot()
	got := map[string]int{}
	for _, r := range all {
		got[r.Topic]++
	}
	for _, topic := range slices.Sorted(maps.Keys(got)) {
		if got[topic] != c.due[topic] {
			c.Errorf("%s: %d messages came in the end, want %d", topic, got[topic], c.due[topic])
		}
	}
}

func mosquittoVersion(t *testing.T) string {
	t.Helper()
	out, _ := exec.Command("mosquitto", "-h").Output() // its exit status is not 0
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(strings.TrimPrefix(line, "mosquitto version"))
}
