package link

import (
	"bytes"
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/internal/testcert"
)

// A peer that stops reading does not delay the end of a connection, whatever type the connection
// has. A tls.Conn alone would wait for 5 seconds.
func TestFastCloser_ClosesWithinCloseTimeout(t *testing.T) {
	wrapped := map[string]func(c net.Conn) net.Conn{
		"TLS":                                  func(c net.Conn) net.Conn { return c },
		"WebSocket":                            func(c net.Conn) net.Conn { return &wsConn{Conn: c} },
		"after early bytes of a proxy":         func(c net.Conn) net.Conn { return &readerConn{c, c} },
		"bound, from the application's dialer": func(c net.Conn) net.Conn { return &bound{c} },
	}
	for name, wrap := range wrapped {
		for how, end := range map[string]func(c *Conn){
			"a write that takes too long": func(c *Conn) {
				_ = c.Send(func(dst []byte) []byte { return append(dst, bytes.Repeat([]byte("x"), 100_000)...) })
			},
			"Fail":  func(c *Conn) { c.Fail(ErrKeepAlive) },
			"Close": func(c *Conn) { _ = c.Close() },
		} {
			if name == "WebSocket" && how == "a write that takes too long" {
				continue // it has no handshake here
			}
			t.Run(name+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ca := testcert.NewAuthority(t, "trusted")
					leaf := ca.Issue(t, "broker.test", time.Hour).TLS(t)
					near, far := net.Pipe()
					defer far.Close()
					server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{leaf}, SessionTicketsDisabled: true})
					go func() { _ = server.Handshake() }() // and reads nothing more
					inner, err := handshake(t.Context(), near, &tls.Config{RootCAs: ca.Pool()}, "broker.test")
					if err != nil {
						t.Fatal(err)
					}
					const writeTimeout = time.Second
					c := newConn(wrap(inner), 0, writeTimeout)
					began := time.Now()
					end(c)
					limit := closeTimeout
					if how == "a write that takes too long" {
						limit += writeTimeout
					}
					if took := time.Since(began); took > limit {
						t.Errorf("it took %v, want %v at most", took, limit)
					}
					if _, err := near.Write([]byte("x")); err == nil {
						t.Error("the transport is open")
					}
				})
			})
		}
	}
}

// bound is a connection type of another package, which gives access to the wrapped connection.
type bound struct{ net.Conn }

func (b *bound) NetConn() net.Conn { return b.Conn }

// Close sends close_notify if the peer reads it. It distinguishes an end from a broken connection.
func TestFastCloser_SendsCloseNotify(t *testing.T) {
	ca := testcert.NewAuthority(t, "trusted")
	leaf := ca.Issue(t, "broker.test", time.Hour).TLS(t)
	near, far := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{leaf}})
		_, err := server.Read(make([]byte, 1))
		ended <- err
	}()
	inner, err := handshake(t.Context(), near, &tls.Config{RootCAs: ca.Pool()}, "broker.test")
	if err != nil {
		t.Fatal(err)
	}
	_ = newConn(inner, 0, time.Second).Close()
	if err := <-ended; err == nil || err.Error() != "EOF" {
		t.Errorf("the peer read %v", err)
	}
}
