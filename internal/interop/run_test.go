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

// run is one test on one broker. No other run uses its topics and client identifiers. At the end,
// its remains on a shared broker are removed.
type run struct {
	*testing.T
	ctx    context.Context // ends when the test has taken too long
	broker broker
	name   string

	mu       sync.Mutex
	retained map[string]bool // topics
	sessions map[string]bool // client identifiers
}

// timeout is the maximum time of a test. Only failures use all of it.
const timeout = 20 * time.Second

func newRun(t *testing.T, b broker) *run {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	// Use few letters and digits, because a server need not accept more [MQTT-3.1.3-5].
	r := &run{T: t, ctx: ctx, broker: b, name: "mi" + strings.ToLower(rand.Text()[:10]),
		retained: map[string]bool{}, sessions: map[string]bool{}}
	if b.Traits().shared {
		t.Cleanup(r.sweep) // runs last, after all clients have ended
	}
	return r
}

// topic returns a topic of this run.
func (r *run) topic(suffix string) string { return r.name + "/" + suffix }

// proxy returns a proxy before the broker.
func (r *run) proxy() *mqtttest.Proxy {
	r.Helper()
	return mqtttest.StartProxy(r, r.broker.URL())
}

// config returns the configuration of a client of this run. It has short timeouts and connects to
// the broker without a proxy. Everything else is default.
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

// make creates a client that ends with the test, together with its session.
func (r *run) make(cfg client.Config) *client.Client {
	r.Helper()
	c, err := client.New(cfg)
	if err != nil {
		r.Fatal(err)
	}
	r.mu.Lock()
	r.sessions[cfg.ClientID] = true
	r.mu.Unlock()
	r.Cleanup(func() { _ = c.Close() }) // a test that checks Close calls it itself
	return c
}

// start creates a client and waits until it is connected.
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

// sweep removes what the run left on a shared broker.
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

// visit connects directly under a client identifier, and replaces its present user. It neither
// resumes nor leaves a session.
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

// subscribe records the messages for a filter.
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

// retains records that a topic has a retained message.
func (r *run) retains(topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retained[topic] = true
}

// deliver publishes and waits until the broker has the message.
func (r *run) deliver(c *client.Client, m client.Message) *client.Delivery {
	r.Helper()
	d := r.publish(c, m)
	if o, err := d.Wait(r.ctx); err != nil {
		r.Fatalf("%s at QoS %d: %+v, %v", m.Topic, m.QoS, o, err)
	}
	return d
}
