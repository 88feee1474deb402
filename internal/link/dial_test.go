package link

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// echo sends back what each connection receives, until the connection ends.
func echo(t *testing.T, l net.Listener) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
}

// talk sends data to an echoing server and checks the echo.
func talk(t *testing.T, c net.Conn, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline := time.Now().Add(10 * time.Second)
	if err := errors.Join(c.SetWriteDeadline(deadline), c.SetReadDeadline(deadline)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 10)
	for _, part := range []string{"hello", "world"} {
		if _, err := c.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "helloworld" {
		t.Errorf("got %q, %v", got, err)
	}
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func server(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := ParseServer(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestDial_TCPAndUnix(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	echo(t, l)
	c, err := (&Dialer{}).Dial(t.Context(), server(t, "mqtt://"+l.Addr().String()))
	talk(t, c, err)

	dir, err := os.MkdirTemp("", "mooring") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l = listen(t, "unix", filepath.Join(dir, "s"))
	echo(t, l)
	c, err = (&Dialer{}).Dial(t.Context(), server(t, "unix://"+filepath.ToSlash(filepath.Join(dir, "s"))))
	talk(t, c, err)
}

// webSocket echoes binary messages in pieces that differ from the client's, or answers with a text
// message.
func webSocket(t *testing.T) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		upgrader := websocket.Upgrader{Subprotocols: []string{"mqtt"}}
		ws, err := upgrader.Upgrade(w, req, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		if ws.Subprotocol() != "mqtt" {
			t.Errorf("subprotocol %q [MQTT-6.0.0-3]", ws.Subprotocol())
		}
		for {
			_, b, err := ws.ReadMessage()
			if err != nil {
				return
			}
			if req.URL.Path == "/text" {
				_ = ws.WriteMessage(websocket.TextMessage, b)
				continue
			}
			for i := range b {
				_ = ws.WriteMessage(websocket.BinaryMessage, b[i:i+1])
			}
			_ = ws.WriteMessage(websocket.BinaryMessage, nil)
		}
	})
}

func TestDial_TLSChecksServerName(t *testing.T) {
	s := httptest.NewUnstartedServer(webSocket(t))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // hides the messages about refused handshakes
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate()) // valid for 127.0.0.1 and example.com
	port := s.Listener.Addr().(*net.TCPAddr)
	conf := &tls.Config{RootCAs: roots}

	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: s.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	echo(t, l)
	c, err := (&Dialer{TLS: conf}).Dial(t.Context(), server(t, "mqtts://"+l.Addr().String()))
	talk(t, c, err)
	if conf.ServerName != "" {
		t.Error("the caller's configuration was changed")
	}
	var unknown x509.UnknownAuthorityError
	if _, err := (&Dialer{}).Dial(t.Context(), server(t, "mqtts://"+l.Addr().String())); !errors.As(err, &unknown) {
		t.Errorf("without roots: %v", err)
	}
	var name x509.HostnameError
	wrong := &tls.Config{RootCAs: roots, ServerName: "wrong.test"}
	if _, err := (&Dialer{TLS: wrong}).Dial(t.Context(), server(t, "mqtts://"+l.Addr().String())); !errors.As(err, &name) {
		t.Errorf("with another name: %v", err)
	}
	c, err = (&Dialer{TLS: conf}).Dial(t.Context(), server(t, "wss://"+port.String()+"/mqtt"))
	talk(t, c, err)
	if _, err := (&Dialer{}).Dial(t.Context(), server(t, "wss://"+port.String()+"/mqtt")); !errors.As(err, &unknown) {
		t.Errorf("WebSocket without roots: %v", err)
	}
}

func TestDial_WebSocket(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/mqtt", webSocket(t))
	mux.Handle("/text", webSocket(t))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	base := strings.Replace(s.URL, "http", "ws", 1)
	c, err := (&Dialer{}).Dial(t.Context(), server(t, base+"/mqtt"))
	talk(t, c, err)
	if _, err := (&Dialer{}).Dial(t.Context(), server(t, base+"/nothing")); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("no WebSocket there: %v", err)
	}
	c, err = (&Dialer{}).Dial(t.Context(), server(t, base+"/text"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 9)); err == nil || !strings.Contains(err.Error(), "not binary") {
		t.Errorf("a text message: %v", err)
	}
}

// The Host of a WebSocket's request has a port only if the port differs from that of the scheme
// (RFC 6455, section 4.1). Servers that sign the request or route by Host compare it.
func TestDial_WebSocketHost(t *testing.T) {
	for raw, want := range map[string]string{
		"ws://h.test/mqtt": "h.test", "wss://h.test:443/mqtt?x=1": "h.test", "ws://[::1]": "[::1]",
		"ws://h.test:443": "h.test:443", "wss://h.test:80": "h.test:80", "wss://[::1]:8443": "[::1]:8443",
	} {
		near, far := net.Pipe()
		asked := make(chan string, 1)
		go func() {
			defer far.Close()
			if req, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
				asked <- req.Host + " " + req.RequestURI
			}
			close(asked)
		}()
		u := server(t, raw)
		before := *u
		if _, err := overWebSocket(t.Context(), near, u, nil); err == nil {
			t.Error("there was no answer, and yet a WebSocket")
		}
		if got := <-asked; got != want+" "+u.RequestURI() {
			t.Errorf("%s: asked for %s", raw, got)
		}
		if *u != before {
			t.Errorf("%s was changed to %v", raw, u)
		}
	}
}

func TestDial_BoundsTheWebSocketAnswer(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n")
		for line := "A: " + strings.Repeat("x", 1000) + "\r\n"; err == nil; {
			_, err = io.WriteString(c, line) // until the client closes the connection
		}
		_ = c.Close()
	}()
	t.Cleanup(func() { _ = l.Close(); <-ended })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := (&Dialer{}).Dial(ctx, server(t, "ws://"+l.Addr().String())); !errors.Is(err, errHandshakeTooLong) {
		t.Errorf("got %v", err)
	}
}

// The server accepts the connection and sends nothing. The context must end the TLS and WebSocket
// handshakes, whether it is canceled or reaches its deadline.
func TestDial_ContextEndsHandshakes(t *testing.T) {
	for _, scheme := range []string{"mqtts", "ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			l := listen(t, "tcp", "127.0.0.1:0")
			defer l.Close()
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := (&Dialer{}).Dial(ctx, server(t, scheme+"://"+l.Addr().String()))
				failed <- err
			}()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Read(make([]byte, 1)); err != nil { // the handshake has begun
				t.Fatal(err)
			}
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		})
	}
}

func TestWebSocket_ReportsWriteErrors(t *testing.T) {
	s := httptest.NewServer(webSocket(t))
	t.Cleanup(s.Close)
	c, err := (&Dialer{}).Dial(t.Context(), server(t, strings.Replace(s.URL, "http", "ws", 1)+"/mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Write([]byte("abc")); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_ = c.Close()
	if n, err := c.Write([]byte("abc")); n != 0 || err == nil {
		t.Errorf("closed: %d, %v", n, err)
	}
}
