package mqtttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	proxyMaxConnections = 4096
	proxyDialTimeout    = 10 * time.Second
)

// Proxy stands between MQTT clients and a broker and does to the link what the
// field does: it cuts, tears packets, loses acknowledgements, stalls, delays.
// Without a fault it passes bytes on unchanged.
//
// Faults come in two kinds. Those on bytes (Cut, CutAfter, Stall, Delay,
// Throttle, Fragment) work for any stream, TLS and WebSocket included. Those on
// packets (CutInside, Lose, OnPacket) need to see MQTT; a stream that is not is
// passed on untouched and counted in [ProxyStats.Opaque].
//
// Cut resets both ends at once and may take bytes with it that were on their
// way. Every other fault that ends a connection first delivers what comes before
// it, to the byte, then ends the receiver's stream and resets the sender.
//
// All methods may be called at any time from any goroutine. What a Proxy
// buffers is bounded, at 1 MiB per connection and direction; behind that, the
// sender feels the pressure as it would on a real link.
type Proxy struct {
	url      string
	listener net.Listener // nil: reached by Dial only
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	shape   atomic.Pointer[proxyShape]
	hook    atomic.Pointer[proxyHook]
	hooking atomic.Int32   // hooks that have not returned
	armed   [2]atomic.Bool // rules has something for this direction

	mu        sync.Mutex // guards all below
	dial      func(context.Context) (net.Conn, error)
	links     map[*proxyLink]struct{}
	nextLink  uint64
	seed      uint64
	refuse    bool
	blackhole bool
	rules     [2]proxyRules
	stats     ProxyStats
	changed   chan struct{} // closed when stats change; nil while nobody waits
	closed    bool
}

// StartProxy starts a proxy to target on a free local port and closes it when
// the test ends. It fails the test if it cannot.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := NewProxy("127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// NewProxy listens on addr ("127.0.0.1:0" for a free port) and passes each
// connection on to target, "mqtt://host:port" or "host:port". The caller must
// Close it.
func NewProxy(addr, target string) (*Proxy, error) {
	dial, err := proxyDialer(target)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("mqtttest: proxy cannot listen on %q, choose another address: %w", addr, err)
	}
	p := NewPipeProxy(dial)
	p.url, p.listener = "mqtt://"+listener.Addr().String(), listener
	p.wg.Go(p.accept)
	return p, nil
}

// NewPipeProxy returns a proxy without a port: clients come through
// [Proxy.Dial], and dial makes the connection to the broker for each. With
// connections that live in memory, on both sides, it runs in a
// testing/synctest bubble.
func NewPipeProxy(dial func(context.Context) (net.Conn, error)) *Proxy {
	p := &Proxy{dial: dial, links: map[*proxyLink]struct{}{}, seed: 1}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.shape.Store(&proxyShape{changed: make(chan struct{})})
	return p
}

// URL is where clients find the proxy, "mqtt://host:port". It is empty for a
// pipe proxy.
func (p *Proxy) URL() string { return p.url }

// Addr is the host and port of URL.
func (p *Proxy) Addr() string { return strings.TrimPrefix(p.url, "mqtt://") }

// SetTarget sends new connections to another broker, as after a failover.
// Existing ones stay where they are; Cut moves their clients over. The error
// says why target cannot be one.
func (p *Proxy) SetTarget(target string) error {
	dial, err := proxyDialer(target)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dial = dial
	return nil
}

// Dial makes a connection through the proxy that lives in memory on the
// client's side. Refuse and Blackhole apply to it. It fails only after Close.
func (p *Proxy) Dial() (net.Conn, error) {
	near, far := net.Pipe()
	if !p.admit(far) {
		_ = near.Close()
		return nil, fmt.Errorf("mqtttest: proxy: %w", net.ErrClosed)
	}
	return near, nil
}

// Close cuts every connection, stops every schedule and waits for all
// goroutines, except in an OnPacket hook. If a hook has not returned after 2 s, the
// error says so.
func (p *Proxy) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	var err error
	if first && p.listener != nil {
		err = p.listener.Close()
	}
	p.cancel()
	inHook := false
	for _, l := range p.snapshot() {
		inHook = inHook || l.inside() != nil
		l.abort()
	}
	if inHook {
		return err
	}
	ended := make(chan struct{})
	go func() {
		p.wg.Wait()
		close(ended)
	}()
	for {
		select {
		case <-ended:
			return err
		case <-time.After(hookLimit):
			if p.hooking.Load() > 0 {
				return errors.Join(err, fmt.Errorf("mqtttest: proxy: an OnPacket hook has not returned within %v after Close", hookLimit))
			}
		}
	}
}

// accept runs until the listener is closed. A passing failure, such as too
// many open files, is waited out.
func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		switch {
		case err == nil:
			p.admit(conn)
		case errors.Is(err, net.ErrClosed):
			return
		case !proxyWait(p.ctx, 10*time.Millisecond, nil):
			return
		}
	}
}

// admit takes a client's connection in. False means that the proxy is closed.
func (p *Proxy) admit(client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse || len(p.links) >= proxyMaxConnections {
		proxyReset(client)
		if !p.closed {
			p.stats.Refused++
			p.announce()
		}
		return !p.closed
	}
	p.nextLink++
	l := &proxyLink{p: p, client: client, id: p.nextLink, seed: p.seed}
	l.ctx, l.cancel = context.WithCancel(p.ctx)
	p.links[l] = struct{}{}
	if p.blackhole {
		p.stats.Blackholed++
		p.announce()
		p.wg.Go(l.swallow)
	} else {
		dial := p.dial
		p.wg.Go(func() { l.serve(dial) })
	}
	return true
}

func (p *Proxy) snapshot() []*proxyLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*proxyLink, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

// proxyDialer understands what SetTarget and NewProxy are given.
func proxyDialer(target string) (func(context.Context) (net.Conn, error), error) {
	addr := target
	if strings.Contains(target, "://") {
		u, err := url.Parse(target)
		if err != nil {
			return nil, fmt.Errorf("mqtttest: proxy target %q: %w", target, err)
		}
		addr = u.Host
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("mqtttest: proxy target %q must be host:port or mqtt://host:port: %w", target, err)
	}
	return func(ctx context.Context) (net.Conn, error) {
		dialer := net.Dialer{Timeout: proxyDialTimeout}
		return dialer.DialContext(ctx, "tcp", addr)
	}, nil
}
