package link

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// Dialer opens transports. The zero value connects directly and trusts the system's root
// certificates. It is safe for concurrent use. Its fields must not change after the first use.
type Dialer struct {
	Proxy    *Proxy        // nil: no proxy. Unix sockets never use a proxy
	TLS      *tls.Config   // for mqtts and wss; it is not modified
	Files    *TLSFiles     // replaces TLS; read for each connection
	Resolver *net.Resolver // nil: net.DefaultResolver
	// Request returns the URL and the header of the request that opens a WebSocket. It may modify
	// server. If it is nil, the request uses server and no extra header. An error is reported as a
	// *WebSocketError.
	Request func(ctx context.Context, server *url.URL) (*url.URL, http.Header, error)

	mu      sync.Mutex
	reading *reading    // present pass over Files; nil: none
	conf    *tls.Config // built from TLS or Files, with a cache of TLS sessions
	sum     fingerprint // of the files from which conf was built
	leftOut error       // why a certificate in Files.CA is unusable; guarded by mu
}

// Dial opens the transport to u, which ParseServer has returned. ctx bounds all steps: name lookup,
// connecting, the proxy's answer, and the TLS and WebSocket handshakes. Errors are *ProxyError,
// *TLSFileError, *WebSocketError, and those of net, crypto/tls and crypto/x509.
func (d *Dialer) Dial(ctx context.Context, u *url.URL) (c net.Conn, err error) {
	if u.Scheme == "unix" {
		return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
	}
	webSocket := u.Scheme == "ws" || u.Scheme == "wss"
	var header http.Header
	if webSocket {
		if u, header, err = d.webSocketRequest(ctx, u); err != nil {
			return nil, err
		}
	}
	proxy, secure := d.Proxy.For(u.Host), u.Scheme == "mqtts" || u.Scheme == "wss"
	var conf *tls.Config
	if secure || proxy != nil && proxy.Scheme == "https" {
		if conf, err = d.tlsConfig(ctx); err != nil {
			return nil, err
		}
	}
	if proxy == nil {
		c, err = d.dialTCP(ctx, u.Host)
	} else {
		c, err = d.dialProxy(ctx, proxy, u.Host, conf)
	}
	if err == nil && secure {
		c, err = handshake(ctx, c, conf, u.Hostname())
		if err != nil {
			err = d.explained(err)
		}
	}
	if err == nil && webSocket {
		c, err = overWebSocket(ctx, c, u, header)
	}
	return c, err
}

// handshake returns a TLS connection over c. On an error it closes c. The certificate must name
// host, unless conf has a ServerName.
func handshake(ctx context.Context, c net.Conn, conf *tls.Config, host string) (net.Conn, error) {
	conf = conf.Clone()
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	t := tls.Client(c, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return t, nil
}

// guard closes c if ctx ends before release is called. In that case release returns the cause.
func guard(ctx context.Context, c net.Conn) (release func() error) {
	raw := transport(c) // closing a tls.Conn may wait for its peer
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	return func() error {
		if stop() {
			return nil
		}
		_ = raw.Close()
		return context.Cause(ctx)
	}
}
