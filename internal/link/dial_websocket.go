package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

const (
	subprotocol = "mqtt" // [MQTT-6.0.0-3]
	// maxHandshake bounds the server's answer to the WebSocket handshake, in bytes.
	maxHandshake = 64 << 10
)

var (
	errHandshakeTooLong = fmt.Errorf("its answer is longer than %d bytes", maxHandshake)
	errNoWebSocket      = errors.New("it does not speak HTTP; check the port in its URL")
	errExtension        = errors.New("it uses a WebSocket extension that the client did not request; disable compression in the server or in the proxy in front of it")
)

// frameBuffers holds buffers for written frames.
var frameBuffers sync.Pool

// webSocketRequest returns the URL and the header of the request to u, which ParseServer has
// returned.
func (d *Dialer) webSocketRequest(ctx context.Context, u *url.URL) (*url.URL, http.Header, error) {
	if d.Request == nil {
		return u, nil, nil
	}
	server := *u
	to, header, err := d.Request(ctx, &server)
	if err == nil {
		to, err = checkRequestURL(to)
	}
	if err == nil {
		header, err = checkRequestHeader(header)
	}
	if err != nil {
		return nil, nil, &WebSocketError{Server: u.Host, Err: &requestError{err}}
	}
	return to, header, nil
}

// checkRequestURL returns a copy of a URL with a port. Its errors do not quote the URL, because the
// URL may be signed.
func checkRequestURL(u *url.URL) (*url.URL, error) {
	if u == nil {
		return nil, errors.New("it has no URL")
	}
	to := *u
	port := map[string]string{"ws": "80", "wss": "443"}[to.Scheme]
	switch {
	case port == "":
		return nil, fmt.Errorf("its URL has the scheme %q; use ws or wss", to.Scheme)
	case to.User != nil:
		return nil, errors.New("its URL has a user name, which a WebSocket cannot have; set the header Authorization")
	case to.Fragment != "":
		return nil, errors.New("its URL has a fragment, which is not sent; write # as %23")
	}
	host, err := hostPort(strings.Replace(to.Host, "%", "%25", 1), to.Scheme, port)
	if err != nil {
		return nil, fmt.Errorf("its URL %w", err)
	}
	to.Host = host
	if _, err := url.Parse(to.String()); err != nil {
		return nil, errors.New("its URL is invalid")
	}
	return &to, nil
}

// checkRequestHeader returns a copy of a header with canonical names. It returns an error for
// header fields that net/http would omit or change.
func checkRequestHeader(header http.Header) (http.Header, error) {
	out := http.Header{}
	for name, values := range header {
		key := http.CanonicalHeaderKey(name)
		switch {
		case name == "" || strings.ContainsFunc(name, notToken):
			return nil, fmt.Errorf("its header has the invalid name %q", name)
		case slices.Contains([]string{"Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Trailer"}, key), strings.HasPrefix(key, "Sec-Websocket-"):
			return nil, fmt.Errorf("its header has %s, which the client sets itself; remove it", key)
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }) {
				return nil, fmt.Errorf("its header %s has a control character in its value", key)
			}
			out.Add(key, v)
		}
	}
	return out, nil
}

// notToken reports whether r is invalid in the name of a header field (RFC 9110 section 5.6.2).
func notToken(r rune) bool {
	alphanumeric := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// overWebSocket opens a WebSocket over c. On an error it closes c. u and header are the request.
// The caller has done the TLS handshake, if any.
func overWebSocket(ctx context.Context, c net.Conn, u *url.URL, header http.Header) (net.Conn, error) {
	limit := &io.LimitedReader{R: c, N: maxHandshake}
	opened := &readerConn{c, limit}
	given := func(context.Context, string, string) (net.Conn, error) { return opened, nil }
	d := websocket.Dialer{Subprotocols: []string{subprotocol}, NetDialContext: given, NetDialTLSContext: given,
		WriteBufferSize: maxFrame, WriteBufferPool: &frameBuffers}
	// While gorilla/websocket v1.5.3 waits for the server's answer, it observes only the deadline
	// of ctx. So guard closes the connection when ctx ends.
	release := guard(ctx, c)
	ws, resp, err := d.DialContext(ctx, asWritten(u), header)
	ended := release()
	failed := &WebSocketError{Server: u.Host, Err: err}
	switch {
	case ended != nil && (err == nil || resp == nil):
		return nil, ended
	case err == nil && ws.Subprotocol() != subprotocol:
		failed.Err = fmt.Errorf("it selected the subprotocol %q, and MQTT requires %q [MQTT-6.0.0-4]; check the path in its URL", printable(ws.Subprotocol(), 100), subprotocol)
	case err == nil && resp.Header.Get("Sec-Websocket-Extensions") != "":
		failed.Err = errExtension
	case err == nil:
		opened.r = c
		ws.SetReadLimit(maxMessage)
		return &wsConn{Conn: c, ws: ws}, nil
	case limit.N <= 0:
		failed.Err = errHandshakeTooLong
	case resp != nil:
		failed = refusedWebSocket(u, header, resp)
	case notHTTP(err):
		failed.Err = errNoWebSocket
	}
	_ = c.Close()
	return nil, failed
}

// notHTTP reports whether err, returned by http.ReadResponse, quotes an answer that is not HTTP.
func notHTTP(err error) bool {
	var header textproto.ProtocolError
	return errors.As(err, &header) || strings.HasPrefix(err.Error(), "malformed HTTP")
}

// asWritten returns a URL without the default port that ParseServer added, because a Host header
// omits the default port (RFC 6455, section 4.1).
func asWritten(u *url.URL) string {
	if u.Scheme == "ws" && u.Port() == "80" || u.Scheme == "wss" && u.Port() == "443" {
		short := *u
		short.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
		return short.String()
	}
	return u.String()
}
