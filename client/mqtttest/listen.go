package mqtttest

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// listen opens the listeners that the options request.
func (b *Broker) listen() error {
	if b.opts.NoTCP {
		return nil
	}
	l, err := b.open(b.opts.Addr)
	if err != nil {
		return err
	}
	b.addrs.tcp = l.Addr().String()
	b.wg.Go(func() { b.accept(l, func(nc net.Conn) { b.serve(nc, nc) }) })
	if b.opts.TLS {
		if err := b.listenTLS(); err != nil {
			return err
		}
	}
	if b.opts.WebSocket {
		return b.listenWebSocket()
	}
	return nil
}

func (b *Broker) open(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("mqtttest: cannot listen on %s; choose another Options.Addr or leave it empty: %w", addr, err)
	}
	b.listeners = append(b.listeners, l)
	return l, nil
}

// accept serves a listener until the broker ends.
func (b *Broker) accept(l net.Listener, serve func(net.Conn)) {
	for {
		nc, err := l.Accept()
		if err == nil {
			serve(nc)
			continue
		}
		select {
		case <-b.done:
			return
		case <-time.After(10 * time.Millisecond): // for example, no free file descriptors
		}
	}
}

func (b *Broker) listenTLS() error {
	server, client, err := selfSigned()
	if err != nil {
		return err
	}
	l, err := b.open("127.0.0.1:0")
	if err != nil {
		return err
	}
	b.addrs.tls, b.trust = l.Addr().String(), client
	b.wg.Go(func() { b.accept(l, func(nc net.Conn) { b.serve(tls.Server(nc, server), nc) }) })
	return nil
}

func (b *Broker) listenWebSocket() error {
	l, err := b.open("127.0.0.1:0")
	if err != nil {
		return err
	}
	b.addrs.ws = l.Addr().String()
	b.httpd = &http.Server{Handler: b.webSocketHandler(), ReadHeaderTimeout: b.opts.ConnectTimeout}
	b.wg.Go(func() { _ = b.httpd.Serve(l) }) // ends with Close
	return nil
}

// URL returns the broker's address in the form mqtt://127.0.0.1:port. With Options.NoTCP, it
// returns "".
func (b *Broker) URL() string { return address("mqtt://", b.addrs.tcp, "") }

// Addr returns the host and port of URL. To start a later broker on the same port, use the result
// as Options.Addr.
func (b *Broker) Addr() string { return b.addrs.tcp }

// TLSURL returns the address of the TLS listener in the form mqtts://127.0.0.1:port. Without
// Options.TLS, it returns "".
func (b *Broker) TLSURL() string { return address("mqtts://", b.addrs.tls, "") }

// WebSocketURL returns the address of the WebSocket listener in the form ws://127.0.0.1:port/mqtt.
// Without Options.WebSocket, it returns "".
func (b *Broker) WebSocketURL() string { return address("ws://", b.addrs.ws, "/mqtt") }

// TLSConfig returns a configuration for clients that trusts the certificate of the TLS listener.
// Without Options.TLS, it returns nil.
func (b *Broker) TLSConfig() *tls.Config {
	if b.trust == nil {
		return nil
	}
	return b.trust.Clone()
}

func address(scheme, addr, path string) string {
	if addr == "" {
		return ""
	}
	return scheme + addr + path
}
