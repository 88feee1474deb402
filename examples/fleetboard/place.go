package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/client/mqtttest"
)

// place is the broker: either a broker in this process, which can be restarted, or another one.
type place struct {
	url  string
	addr string // host and port, for links
	root string // prefix of all topics
	own  bool

	mu     sync.Mutex
	broker *mqtttest.Broker // nil if the broker is another one, or closed
	dir    string
}

// outage is the time between the kill and the start of the broker.
const outage = 700 * time.Millisecond

var errNotOwn = errors.New("the broker does not run in this process, so the board cannot restart it")

func newPlace(raw string, id string) (*place, error) {
	if raw != "" {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "mqtt" || u.Hostname() == "" || u.User != nil {
			return nil, errors.New("-broker: use mqtt://host:1883; a user name goes into -user")
		}
		port := u.Port()
		if port == "" {
			port = "1883"
		}
		return &place{url: raw, addr: net.JoinHostPort(u.Hostname(), port), root: "fleet/" + id}, nil
	}
	dir, err := os.MkdirTemp("", "fleetboard")
	if err != nil {
		return nil, err
	}
	b, err := mqtttest.New(mqtttest.Options{Dir: dir})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &place{url: b.URL(), addr: b.Addr(), root: "fleet", own: true, broker: b, dir: dir}, nil
}

// link returns a proxy to the broker that can cause faults.
func (p *place) link() *mqtttest.Proxy {
	return mqtttest.NewPipeProxy(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", p.addr)
	})
}

// restart kills the broker and starts a new one with the same stored state.
func (p *place) restart() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broker == nil {
		return errNotOwn
	}
	p.broker.Kill()
	time.Sleep(outage)
	var err error
	for range 50 { // the port may still be in use
		var b *mqtttest.Broker
		if b, err = mqtttest.New(mqtttest.Options{Dir: p.dir, Addr: p.addr}); err == nil {
			p.broker = b
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.broker = nil
	return err
}

func (p *place) close() (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broker != nil {
		err = p.broker.Close()
		p.broker = nil
	}
	if p.dir != "" {
		err = errors.Join(err, os.RemoveAll(p.dir))
	}
	return err
}

func (p *place) topic(name, what string) string { return p.root + "/" + name + "/" + what }

// name returns the name of the device that publishes to a topic.
func (p *place) name(topic, what string) string {
	return strings.TrimSuffix(strings.TrimPrefix(topic, p.root+"/"), "/"+what)
}
