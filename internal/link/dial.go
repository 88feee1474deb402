package link

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// Dialer opens transports. The zero value connects directly and trusts the system's
// roots. It is safe for concurrent use; its fields must not change after the first use.
type Dialer struct {
	Proxy    *Proxy        // nil: none. Unix sockets never use one
	TLS      *tls.Config   // for mqtts and wss; it is not modified
	Files    *TLSFiles     // in place of TLS: read for each connection
	Resolver *net.Resolver // nil: net.DefaultResolver
	// Request returns URL and header of the request that opens a WebSocket to server, which it may
	// change; nil: server, and no header. An error is a *WebSocketError.
	Request func(ctx context.Context, server *url.URL) (*url.URL, http.Header, error)

	mu      sync.Mutex
	reading *reading    // of Files; nil: none is under way
	conf    *tls.Config // made from TLS or Files, with a cache of TLS sessions
	sum     fingerprint // of the files that conf was made from
	leftOut error       // why a certificate of Files.CA is not used; guarded by mu
}

// Dial opens the transport to u, a result of ParseServer. ctx bounds all steps: name
// lookup, connecting, the proxy's answer, TLS and WebSocket handshakes. Errors:
// *ProxyError, *TLSFileError, *WebSocketError, and those of net, crypto/tls and crypto/x509.
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

// handshake returns a TLS connection over c, which it closes on an error. The
// certificate must name host, unless conf has a ServerName.
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

// guard closes c when ctx ends before release is called, which then returns why.
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
