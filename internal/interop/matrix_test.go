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
)

// TestMatrix has every client publish to every other one through every broker,
// in all the ways that matrixRows lists. What does not do as MQTT 5 says is a
// failure, unless the row knows it: then it stands in docs/interop.md, which
// this test writes with -update-docs.
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

// matrix is what came out.
type matrix struct {
	parties   []party
	mosquitto string               // its version
	marks     map[[3]string]string // by broker, row, column: what departs; empty: nothing
}

func column(pub, sub party) string { return pub.name + " → " + sub.name }

// rowTimeout is what one row of a cell may take. It is used up by failures
// only.
const rowTimeout = 40 * time.Second

// cell is one publisher and one subscriber on a broker, and in runRow's hands
// one row of that.
type cell struct {
	*run
	parties               []party
	pub, sub              party
	publisher, subscriber endpoint
	marked                string
	due                   map[string]int // messages per topic that the subscriber is to get, all in all
}

func (m *matrix) runCell(t *testing.T, b broker, name string, pub, sub party) {
	for _, p := range []party{pub, sub} {
		if p.missing != nil && required() {
			t.Fatalf("MOORING_REQUIRE_PEERS is 1, but %s: %v", p.name, p.missing)
		} else if p.missing != nil {
			t.Skipf("%s: %v", p.name, p.missing)
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
			return // what comes late, or came twice, would confuse the next rows
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
		// Not the cell's context, which has ended by now.
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := e.End(ctx); err != nil {
			c.Error(err)
		}
	})
	return e
}

// departs notes what a client or broker does otherwise than MQTT 5 says.
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

// arrived waits until the subscriber has n messages of this row and returns
// them all.
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

// owes notes that the subscriber gets these, so that expectNoMore can tell.
func (c *cell) owes(list ...received) {
	for _, got := range list {
		c.due[got.Topic]++
	}
}

// expectNoMore says that the subscriber has been given nothing twice by the
// end, and nothing else either.
func (c *cell) expectNoMore() {
	c.Helper()
	fence := c.topic("fence")
	c.subscribe(subscribing{filter: fence, qos: 2})
	c.publish(packet{Topic: fence, QoS: 2})
	c.owes(c.arrived(1)...)
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
