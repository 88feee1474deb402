package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/mooring-mqtt/mooring/internal/wire"
)

// handmade is a WebSocket server on which answer writes the answer to each handshake. accept is the
// value of Sec-WebSocket-Accept. handmade returns the server's URL.
func handmade(t *testing.T, answer func(c net.Conn, req *http.Request, accept string)) *url.URL {
	l := listen(t, "tcp", "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				sum := sha1.Sum([]byte(req.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
				answer(c, req, base64.StdEncoding.EncodeToString(sum[:]))
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return server(t, "ws://"+l.Addr().String()+"/mqtt")
}

// upgraded returns the answer that opens a WebSocket, with additional header fields.
func upgraded(accept string, fields ...string) string {
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + "\r\n" +
		strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

func TestWebSocket_RequestIsMadeForEachConnection(t *testing.T) {
	seen := make(chan string, 2)
	u := handmade(t, func(c net.Conn, req *http.Request, accept string) {
		seen <- fmt.Sprintf("%s %v %v %s", req.RequestURI, req.Header["Origin"], req.Header["X-Token"], req.Host)
		_, _ = io.WriteString(c, upgraded(accept, "Sec-WebSocket-Protocol: mqtt"))
	})
	n, before := 0, *u
	d := &Dialer{Request: func(_ context.Context, server *url.URL) (*url.URL, http.Header, error) {
		n++
		server.RawQuery = fmt.Sprint("signature=", n)
		return server, http.Header{"Origin": {"https://app.test"}, "x-token": {"a", "b"}, "Host": {"name.test"}}, nil
	}}
	for i := range 2 {
		c, err := d.Dial(t.Context(), u)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		want := fmt.Sprintf("/mqtt?signature=%d [https://app.test] [a b] name.test", i+1)
		if got := <-seen; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if *u != before {
		t.Errorf("the server's URL was changed to %v", u)
	}
}

func TestWebSocket_RequestMayLeadToAnotherHost(t *testing.T) {
	other := handmade(t, func(c net.Conn, _ *http.Request, accept string) {
		_, _ = io.WriteString(c, upgraded(accept, "Sec-WebSocket-Protocol: mqtt"))
	})
	d := &Dialer{Request: func(context.Context, *url.URL) (*url.URL, http.Header, error) { return other, nil, nil }}
	c, err := d.Dial(t.Context(), server(t, "wss://nowhere.invalid/mqtt"))
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestWebSocket_RefusesInvalidRequests(t *testing.T) {
	failed := errors.New("no signature")
	to := func(raw string) *url.URL {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for name, tt := range map[string]struct {
		u      *url.URL
		header http.Header
		err    error
		want   string
	}{
		"an error":         {nil, nil, failed, "no signature"},
		"no URL":           {nil, nil, nil, "no URL"},
		"a scheme":         {to("https://h.test/?t=secret"), nil, nil, "https"},
		"no host":          {to("ws:///mqtt?t=secret"), nil, nil, "host"},
		"a port":           {to("ws://h.test:99999/?t=secret"), nil, nil, "port"},
		"a user":           {to("ws://u:secret@h.test"), nil, nil, "Authorization"},
		"a fragment":       {to("ws://h.test/?t=secret#x"), nil, nil, "%23"},
		"an own field":     {to("ws://h.test"), http.Header{"upgrade": {"secret"}}, nil, "Upgrade"},
		"a subprotocol":    {to("ws://h.test"), http.Header{"Sec-WebSocket-Protocol": {"x"}}, nil, "Sec-Websocket-Protocol"},
		"an empty name":    {to("ws://h.test"), http.Header{"": {"secret"}}, nil, `""`},
		"an invalid name":  {to("ws://h.test"), http.Header{"A B": {"secret"}}, nil, "A B"},
		"an invalid value": {to("ws://h.test"), http.Header{"Cookie": {"secret\r\nX: y"}}, nil, "Cookie"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &Dialer{Request: func(context.Context, *url.URL) (*url.URL, http.Header, error) { return tt.u, tt.header, tt.err }}
			_, err := d.Dial(t.Context(), server(t, "ws://127.0.0.1:1/mqtt"))
			refused := &WebSocketError{}
			if !errors.As(err, &refused) || refused.Server != "127.0.0.1:1" || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v", err)
			}
			if tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%v does not wrap the function's error", err)
			}
		})
	}
}

func TestWebSocket_ChecksTheAnswer(t *testing.T) {
	for name, tt := range map[string]struct {
		fields []string
		want   string // "": accepted
	}{
		"mqtt":           {[]string{"Sec-WebSocket-Protocol: mqtt"}, ""},
		"no subprotocol": {nil, `subprotocol ""`},
		"another":        {[]string{"Sec-WebSocket-Protocol: mqttv3.1"}, `subprotocol "mqttv3.1"`},
		"an extension":   {[]string{"Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"}, "extension"},
		"a bad one":      {[]string{"Sec-WebSocket-Protocol: mqtt", "Sec-WebSocket-Extensions: permessage-deflate"}, "101"},
	} {
		t.Run(name, func(t *testing.T) {
			u := handmade(t, func(c net.Conn, _ *http.Request, accept string) {
				_, _ = io.WriteString(c, upgraded(accept, tt.fields...))
				_, _ = c.Read(make([]byte, 1))
			})
			c, err := (&Dialer{}).Dial(t.Context(), u)
			if err == nil {
				_ = c.Close()
			}
			refused := &WebSocketError{}
			if (err == nil) != (tt.want == "") || err != nil && (!errors.As(err, &refused) || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWebSocket_RefusalHasBodyAndAdvice(t *testing.T) {
	for status, advice := range map[int]string{
		200: "path", 301: "ws or wss", 400: "port and the path", 401: "Authorization", 403: "expired", 404: "path", 426: "wss://", 429: "tries again", 502: "gateway", 503: "tries again",
	} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				w.Header().Set("Location", "https://elsewhere.test/mqtt?"+req.URL.RawQuery)
				w.WriteHeader(status)
				_, _ = fmt.Fprintf(w, "<p>No:\r\n\x01  %s and %s and %s</p>%s", req.URL.Query().Get("t"), req.URL.RawQuery, req.Header.Get("Authorization"), strings.Repeat("x", 5000))
			}))
			defer s.Close()
			d := &Dialer{Request: func(_ context.Context, u *url.URL) (*url.URL, http.Header, error) {
				u.RawQuery = "t=very%2Fsecret"
				return u, http.Header{"Authorization": {"Bearer hushhush"}}, nil
			}}
			_, err := d.Dial(t.Context(), server(t, strings.Replace(s.URL, "http", "ws", 1)+"/mqtt"))
			refused := &WebSocketError{}
			if !errors.As(err, &refused) {
				t.Fatalf("got %v", err)
			}
			if refused.Status != status || refused.Reason != http.StatusText(status) || !strings.HasPrefix(refused.Body, "<p>No: ? xxxxx and xxxxx and xxxxx</p>x") {
				t.Errorf("got %+v", refused)
			}
			if text := err.Error(); len(text) > 800 || !strings.Contains(text, fmt.Sprint(status)) || !strings.Contains(text, advice) || !strings.Contains(text, "No:") || strings.ContainsAny(text, "\r\n\x01") {
				t.Errorf("got %s", text)
			}
			for _, s := range []string{"very/secret", "very%2Fsecret", "hush"} {
				if all := fmt.Sprintf("%v %+v", err, refused); strings.Contains(all, s) {
					t.Errorf("%q is in %s", s, all)
				}
			}
			if want := map[int]string{301: "https://elsewhere.test/mqtt"}[status]; refused.Location != want {
				t.Errorf("Location is %q", refused.Location)
			}
		})
	}
}

// A secret is removed even if the kept part of the body ends within it.
func TestWebSocket_RefusalHidesPartialSecrets(t *testing.T) {
	const secret = "abcdefghijklmnopqrstuvwxyz"
	for before := maxRefusal - len(secret); before < maxRefusal-minSecret; before++ {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(403)
			_, _ = io.WriteString(w, strings.Repeat(".", before)+req.URL.Query().Get("t")+strings.Repeat(".", 2000))
		}))
		d := &Dialer{Request: func(_ context.Context, u *url.URL) (*url.URL, http.Header, error) {
			u.RawQuery = "t=" + secret
			return u, nil, nil
		}}
		_, err := d.Dial(t.Context(), server(t, strings.Replace(s.URL, "http", "ws", 1)))
		s.Close()
		if refused := (&WebSocketError{}); !errors.As(err, &refused) || strings.Contains(refused.Body, secret[:minSecret]) {
			t.Errorf("%d bytes before it: %v", before, err)
		}
	}
}

// The status is reported even if the body never ends.
func TestWebSocket_RefusalWithAnEndlessBody(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if _, err := http.ReadRequest(bufio.NewReader(far)); err == nil {
			_, _ = io.WriteString(far, "HTTP/1.1 403 Forbidden\r\nContent-Length: 1000\r\n\r\nnot you")
		}
		cancel() // after reading the status
	}()
	_, err := overWebSocket(ctx, near, server(t, "ws://h.test"), nil)
	if refused := (&WebSocketError{}); !errors.As(err, &refused) || refused.Status != 403 || refused.Body != "not you" {
		t.Errorf("got %v", err)
	}
}

func TestWebSocket_AnswerIsNotHTTP(t *testing.T) {
	for name, answer := range map[string]string{
		"MQTT": "\x20\x03\x00\x84\x00", "a text": "SSH-2.0-OpenSSH_9.2\r\n", "a header": "HTTP/1.1 200 OK\r\n: x\r\n\r\n", "long": strings.Repeat("x", 10_000) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			u := handmade(t, func(c net.Conn, _ *http.Request, _ string) { _, _ = io.WriteString(c, answer) })
			_, err := (&Dialer{}).Dial(t.Context(), u)
			if refused := (&WebSocketError{}); !errors.As(err, &refused) || refused.Status != 0 || len(err.Error()) > 200 {
				t.Errorf("got %v", err)
			}
		})
	}
}

// frame is a frame that the client has sent.
type frame struct {
	opcode byte
	final  bool
	data   []byte
}

func readFrame(r io.Reader) (f frame, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	f.opcode, f.final = head[0]&0x0F, head[0]&0x80 != 0
	size := uint64(head[1] & 0x7F)
	switch size {
	case 126:
		var n [2]byte
		_, err = io.ReadFull(r, n[:])
		size = uint64(binary.BigEndian.Uint16(n[:]))
	case 127:
		var n [8]byte
		_, err = io.ReadFull(r, n[:])
		size = binary.BigEndian.Uint64(n[:])
	}
	var mask [4]byte
	f.data = make([]byte, size)
	if _, e := io.ReadFull(r, mask[:]); e != nil {
		return f, e
	}
	_, e := io.ReadFull(r, f.data)
	for i := range f.data {
		f.data[i] ^= mask[i%4]
	}
	return f, errors.Join(err, e)
}

// publishOf returns a PUBLISH with the given number of bytes.
func publishOf(size int) []byte {
	for payload := max(size-10, 0); ; payload++ {
		p := wire.AppendPublish(nil, &wire.Publish{Topic: "t", Payload: bytes.Repeat([]byte{byte(size)}, payload)})
		if len(p) >= size {
			return p
		}
	}
}

// A packet of up to 64 KiB is one frame, frames contain complete packets, and a larger packet is
// one message.
func TestWebSocket_SendsAPacketAsOneFrame(t *testing.T) {
	const k64 = 64 << 10
	for name, tt := range map[string]struct {
		packets []int
		want    [][]int // sizes of the frames of each message
	}{
		"one":                {[]int{10}, [][]int{{10}}},
		"above 4 KiB":        {[]int{5000}, [][]int{{5000}}},
		"64 KiB":             {[]int{k64}, [][]int{{k64}}},
		"above 64 KiB":       {[]int{k64 + 1}, [][]int{{k64, 1}}},
		"large":              {[]int{150_000}, [][]int{{k64, k64, 150_000 - 2*k64}}},
		"small ones":         {[]int{10, 20, 30}, [][]int{{60}}},
		"exactly full":       {[]int{k64 - 10, 10, 10}, [][]int{{k64}, {10}}},
		"one too many":       {[]int{40_000, 30_000, 10}, [][]int{{40_000}, {30_010}}},
		"around a large one": {[]int{10, 100_000, 10}, [][]int{{10}, {k64, 100_000 - k64}, {10}}},
	} {
		t.Run(name, func(t *testing.T) {
			frames := make(chan frame, 100)
			u := handmade(t, func(c net.Conn, _ *http.Request, accept string) {
				defer close(frames)
				_, _ = io.WriteString(c, upgraded(accept, "Sec-WebSocket-Protocol: mqtt"))
				for {
					f, err := readFrame(c)
					if err != nil {
						return
					}
					frames <- f
				}
			})
			c, err := (&Dialer{}).Dial(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			var all, got []byte
			for _, size := range tt.packets {
				all = append(all, publishOf(size)...)
			}
			if n, err := c.Write(all); n != len(all) || err != nil {
				t.Errorf("Write returned %d, %v; want %d", n, err, len(all))
			}
			_ = c.Close()
			var messages [][]int
			first := true
			for f := range frames {
				if first {
					messages = append(messages, nil)
				}
				if wantOpcode := map[bool]byte{true: 2, false: 0}[first]; f.opcode != wantOpcode {
					t.Errorf("the frame has the opcode %d", f.opcode)
				}
				messages[len(messages)-1] = append(messages[len(messages)-1], len(f.data))
				got, first = append(got, f.data...), f.final
			}
			if fmt.Sprint(messages) != fmt.Sprint(tt.want) {
				t.Errorf("the frames have %v bytes, want %v", messages, tt.want)
			}
			if !bytes.Equal(got, all) {
				t.Error("the bytes are others")
			}
		})
	}
}

// Bytes that are not complete packets are sent too.
func TestWebSocket_WritesIncompletePackets(t *testing.T) {
	for _, b := range [][]byte{{0x30}, {0x30, 0xFF}, {0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, {0x30, 5, 'x'}, append(publishOf(20), 0x30, 5)} {
		if n := messageSize(b); n != len(b) {
			t.Errorf("% x: %d bytes", b, n)
		}
	}
}

func TestWebSocket_LimitsFrames(t *testing.T) {
	for name, size := range map[string]uint64{"256 MiB and a bit": wire.MaxPacketSize + 1, "an exbibyte": 1 << 60} {
		t.Run(name, func(t *testing.T) {
			u := handmade(t, func(c net.Conn, _ *http.Request, accept string) {
				_, _ = io.WriteString(c, upgraded(accept, "Sec-WebSocket-Protocol: mqtt"))
				_, _ = c.Write(binary.BigEndian.AppendUint64([]byte{0x82, 127}, size))
				_, _ = io.Copy(io.Discard, c)
			})
			c, err := (&Dialer{}).Dial(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Read(make([]byte, 9)); err == nil || !strings.Contains(err.Error(), "longer than 268435460 bytes") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWebSocket_ReportsTheReasonOfAClose(t *testing.T) {
	u := handmade(t, func(c net.Conn, _ *http.Request, accept string) {
		_, _ = io.WriteString(c, upgraded(accept, "Sec-WebSocket-Protocol: mqtt"))
		_, _ = c.Write(append([]byte{0x88, 13, 0x03, 0xF0}, "too\r\n\x01 many"...)) // code 1008
		_, _ = io.Copy(io.Discard, c)
	})
	c, err := (&Dialer{}).Dial(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 9)); err == nil || err.Error() != `server closed the WebSocket with code 1008 ("too ? many")` {
		t.Errorf("got %v", err)
	}
}
