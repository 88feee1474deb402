package interop

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/client/mqtttest"
	"github.com/mooring-mqtt/mooring/reliability"
)

// run is one test on one broker. Topics and client identifiers of a run are no
// other run's, and what it leaves at a shared broker is removed.
type run struct {
	*testing.T
	ctx    context.Context // ends when the test has taken too long
	broker broker
	name   string

	mu       sync.Mutex
	retained map[string]bool // topics
	sessions map[string]bool // client identifiers
}

// timeout is what a test may take. It is used up by failures only.
const timeout = 20 * time.Second

func newRun(t *testing.T, b broker) *run {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	// Letters and digits, and short, since a server need not take more
	// [MQTT-3.1.3-5].
	r := &run{T: t, ctx: ctx, broker: b, name: "mi" + strings.ToLower(rand.Text()[:10]),
		retained: map[string]bool{}, sessions: map[string]bool{}}
	if b.Traits().shared {
		t.Cleanup(r.sweep) // the last thing, when all clients have ended
	}
	return r
}

// topic is one of this run's.
func (r *run) topic(suffix string) string { return r.name + "/" + suffix }

// proxy stands before the broker.
func (r *run) proxy() *mqtttest.Proxy {
	r.Helper()
	return mqtttest.StartProxy(r, r.broker.URL())
}

// config is that of a client of this run: impatient, connected to the broker
// without a proxy, all else by default.
func (r *run) config(name string) client.Config {
	cfg := client.Config{
		Servers:  []string{r.broker.URL()},
		ClientID: r.name + name,
		Session:  client.SessionConfig{Expiry: 10 * time.Minute},
		Connection: client.ConnectionConfig{
			Backoff:      reliability.Backoff{Min: 2 * time.Millisecond, Max: 30 * time.Millisecond},
			CloseTimeout: 2 * time.Second,
		},
	}
	login(r.broker, &cfg)
	return cfg
}

// make makes a client that ends with the test, and its session with it.
func (r *run) make(cfg client.Config) *client.Client {
	r.Helper()
	c, err := client.New(cfg)
	if err != nil {
		r.Fatal(err)
	}
	r.mu.Lock()
	r.sessions[cfg.ClientID] = true
	r.mu.Unlock()
	r.Cleanup(func() { _ = c.Close() }) // a test that expects something of it asks itself
	return c
}

// start makes a client and waits until it is connected.
func (r *run) start(cfg client.Config) *client.Client {
	r.Helper()
	c := r.make(cfg)
	if err := c.Start(context.Background()); err != nil {
		r.Fatal(err)
	}
	if err := c.AwaitConnection(r.ctx); err != nil {
		r.Fatal(err)
	}
	return c
}

// sweep removes what the run left at a shared broker.
func (r *run) sweep() {
	r.visit(r.name+"sweep", func(ctx context.Context, c *client.Client) error {
		for topic := range r.retained {
			d, err := c.Publish(ctx, client.Message{Topic: topic, QoS: client.AtLeastOnce, Retain: true})
			if err != nil {
				return err
			}
			if _, err := d.Wait(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	for id := range r.sessions {
		r.visit(id, func(context.Context, *client.Client) error { return nil })
	}
}

// visit connects directly, in place of whoever uses the identifier, without
// the session there was and without leaving one.
func (r *run) visit(clientID string, do func(context.Context, *client.Client) error) {
	r.Helper()
	cfg := r.config("")
	cfg.ClientID, cfg.Session.CleanStart, cfg.Session.Expiry = clientID, true, client.NoSession
	c, err := client.New(cfg)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err = c.Start(ctx); err == nil {
		err = c.AwaitConnection(ctx)
	}
	if err == nil {
		err = do(ctx, c)
	}
	if closed := c.Close(); err == nil {
		err = closed
	}
	if err != nil {
		r.Errorf("visiting the broker as %s: %v", clientID, err)
	}
}

// subscribe gathers what comes for a filter.
func (r *run) subscribe(c *client.Client, filter string, qos client.QoS, options ...client.SubscribeOption) *inbox {
	r.Helper()
	in := &inbox{}
	if _, err := c.Subscribe(r.ctx, filter, qos, in, options...); err != nil {
		r.Fatal(err)
	}
	return in
}

func (r *run) publish(c *client.Client, m client.Message) *client.Delivery {
	r.Helper()
	d, err := c.Publish(r.ctx, m)
	if err != nil {
		r.Fatal(err)
	}
	if m.Retain {
		r.retains(m.Topic)
	}
	return d
}

// retains notes that a topic has a retained message.
func (r *run) retains(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retained[topic] = true
}

// deliver publishes and waits until the broker has it.
func (r *run) deliver(c *client.Client, m client.Message) *client.Delivery {
	r.Helper()
	d := r.publish(c, m)
	if o, err := d.Wait(r.ctx); err != nil {
		r.Fatalf("%s at QoS %d: %+v, %v", m.Topic, m.QoS, o, err)
	}
	return d
}
