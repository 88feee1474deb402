package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// echo answers each challenge with the same data, and refuses "no". "hang" waits for the end of the
// context.
type echo struct{ starts int }

func (*echo) Method() string { return "echo" }

func (e *echo) Start(context.Context) ([]byte, error) {
	e.starts++
	return fmt.Appendf(nil, "start %d", e.starts), nil
}

func (*echo) Continue(ctx context.Context, challenge []byte) ([]byte, error) {
	if string(challenge) == "hang" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return challenge, (*echo)(nil).Done(ctx, challenge)
}

func (*echo) Done(_ context.Context, data []byte) error {
	if string(data) == "no" {
		return errRefusedChallenge
	}
	return nil
}

var errRefusedChallenge = errors.New("not the server that we know")

func (p *peer) nextAuth(want control.Auth) {
	p.t.Helper()
	a, err := control.ParseAuth(p.next(wire.AUTH))
	if err != nil || fmt.Sprint(a) != fmt.Sprint(want) {
		p.t.Fatalf("got %+v, %v, want %+v", a, err, want)
	}
}

func (p *peer) sendAuth(reason byte, method, data string) {
	p.t.Helper()
	p.send(control.AppendAuth(nil, &control.Auth{Reason: reason, Method: method, Data: []byte(data)}))
}

func authenticating(t *testing.T, test func(t *testing.T, c *client.Client, s *script, events *recorder)) {
	withScript(t, func(t *testing.T, s *script) {
		events := &recorder{}
		cfg := testConfig("c", events, s.dial)
		cfg.Connection.Auth, cfg.Connection.ConnectTimeout = &echo{}, 5*time.Second
		test(t, mustStart(t, cfg), s, events)
	})
}

// The server sends a challenge before CONNACK, and authenticates again while messages are
// exchanged.
func TestAuth_ChallengeAndReauthentication(t *testing.T) {
	authenticating(t, func(t *testing.T, c *client.Client, s *script, _ *recorder) {
		p := s.open()
		if p.connect.AuthMethod != "echo" || string(p.connect.AuthData) != "start 1" {
			t.Errorf("CONNECT is %+v", p.connect)
		}
		p.sendAuth(0x18, "echo", "a")
		p.nextAuth(control.Auth{Reason: 0x18, Method: "echo", Data: []byte("a")})
		p.send(control.AppendConnack(nil, &control.Connack{AuthMethod: "echo", AuthData: []byte("fine")}))
		connect(t, c)
		for _, last := range []string{"fine", "no"} {
			result := make(chan error, 1)
			go func() { result <- c.Reauthenticate(t.Context()) }()
			f := p.next(wire.AUTH)
			if a, err := control.ParseAuth(f); err != nil || a.Reason != 0x19 || a.Method != "echo" {
				t.Fatalf("got %+v, %v", a, err)
			}
			p.sendAuth(0x18, "echo", "b")
			p.nextAuth(control.Auth{Reason: 0x18, Method: "echo", Data: []byte("b")})
			publish(t, c, "t", "x", client.AtMostOnce)
			p.nextPublish()
			p.sendAuth(0x00, "echo", last)
			err := <-result
			var refused *client.AuthError
			if last == "fine" && err != nil || last == "no" && (!errors.As(err, &refused) || !errors.Is(err, errRefusedChallenge)) {
				t.Errorf("ended by %q: %v", last, err)
			}
		}
		if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != 0x80 {
			t.Errorf("got %+v, %v", d, err)
		}
	})
}

// An authentication that fails while connecting ends the connection with a reason code and a typed
// error. The client tries again.
func TestAuth_FailsWhileConnecting(t *testing.T) {
	ok := control.Connack{AuthMethod: "echo"}
	for name, tt := range map[string]struct {
		send   []byte
		reason byte
		typed  any
	}{
		"a refused challenge":    {control.AppendAuth(nil, &control.Auth{Reason: 0x18, Method: "echo", Data: []byte("no")}), 0x80, new(*client.AuthError)},
		"a refused last word":    {control.AppendConnack(nil, &control.Connack{AuthMethod: "echo", AuthData: []byte("no")}), 0x80, new(*client.AuthError)},
		"another method in AUTH": {control.AppendAuth(nil, &control.Auth{Reason: 0x18, Method: "other"}), 0x82, new(*client.ProtocolError)},
		"no method in CONNACK":   {control.AppendConnack(nil, &control.Connack{}), 0x82, new(*client.ProtocolError)},
		"another in CONNACK":     {control.AppendConnack(nil, &control.Connack{AuthMethod: "other"}), 0x82, new(*client.ProtocolError)},
		"AUTH with success":      {control.AppendAuth(nil, &control.Auth{Reason: 0x00, Method: "echo", Data: []byte("d")}), 0x82, new(*client.ProtocolError)},
		"a hanging handler":      {control.AppendAuth(nil, &control.Auth{Reason: 0x18, Method: "echo", Data: []byte("hang")}), 0, new(error)},
	} {
		t.Run(name, func(t *testing.T) {
			authenticating(t, func(t *testing.T, c *client.Client, s *script, events *recorder) {
				p := s.open()
				p.send(tt.send)
				if f := p.ended(); tt.reason != 0 {
					if d, err := control.ParseDisconnect(f); err != nil || d.Reason != tt.reason {
						t.Errorf("got %+v, %v, want DISCONNECT 0x%02X", d, err, tt.reason)
					}
				}
				s.accept(ok)
				connect(t, c)
				if failed := eventsOf[client.ConnectFailed](events); len(failed) != 1 || !errors.As(failed[0].Err, tt.typed) {
					t.Errorf("events: %+v", failed)
				}
			})
		})
	}
}

// After CONNACK the server may only answer AUTH packets of the client, and the client waits with a
// limit.
func TestAuth_FailsDuringReauthentication(t *testing.T) {
	for name, auth := range map[string]control.Auth{
		"a challenge nobody asked for": {Reason: 0x18, Method: "echo"},
		"a success nobody asked for":   {Method: "echo", Data: []byte("x")},
		"the server begins one":        {Reason: 0x19, Method: "echo"},
		"another method":               {Reason: 0x18, Method: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			authenticating(t, func(t *testing.T, c *client.Client, s *script, _ *recorder) {
				p := s.accept(control.Connack{AuthMethod: "echo"})
				connect(t, c)
				p.send(control.AppendAuth(nil, &auth))
				if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != 0x82 {
					t.Errorf("got %+v, %v", d, err)
				}
			})
		})
	}
	authenticating(t, func(t *testing.T, c *client.Client, s *script, _ *recorder) {
		if err := c.Reauthenticate(t.Context()); !errors.Is(err, client.ErrNotConnected) {
			t.Errorf("without a connection: %v", err)
		}
		p := s.accept(control.Connack{AuthMethod: "echo"})
		connect(t, c)
		if err := c.Reauthenticate(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a silent server: %v", err)
		}
		p.ended()
		p = s.accept(control.Connack{AuthMethod: "echo"})
		connect(t, c)
		result := make(chan error, 1)
		go func() { result <- c.Reauthenticate(t.Context()) }()
		p.next(wire.AUTH)
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: wire.ReasonNotAuthorized}))
		var ended *client.ConnectionError
		if err := <-result; !errors.As(err, &ended) || ended.Code != wire.ReasonNotAuthorized {
			t.Errorf("a server that refuses: %v", err)
		}
	})
	withScript(t, func(t *testing.T, s *script) { // the client did not request it
		var events recorder
		c := mustStart(t, testConfig("c", &events, s.dial))
		if err := c.Reauthenticate(t.Context()); err == nil {
			t.Error("there is nothing to authenticate with")
		}
		p := s.accept(control.Connack{AuthMethod: "echo"}) // the server sends no data
		if d, err := control.ParseDisconnect(p.ended()); err != nil || d.Reason != 0x82 {
			t.Errorf("got %+v, %v", d, err)
		}
		s.accept(control.Connack{})
		connect(t, c)
		var bad *client.ProtocolError
		if failed := eventsOf[client.ConnectFailed](&events); len(failed) != 1 || !errors.As(failed[0].Err, &bad) {
			t.Errorf("events: %+v", failed)
		}
	})
}

// longAuth returns data of these sizes, one after the other.
type longAuth struct {
	namedAuth
	sizes []int
}

func (l *longAuth) Start(context.Context) ([]byte, error) {
	n := l.sizes[0]
	l.sizes = l.sizes[1:]
	return make([]byte, n), nil
}

// The client rejects data that MQTT cannot carry, in CONNECT and in AUTH. It does not truncate
// them.
func TestAuth_RejectsLongData(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		events := &recorder{}
		cfg := testConfig("c", events, s.dial)
		cfg.Connection.Auth = &longAuth{"long", []int{65_536, 65_535, 65_536}}
		c := mustStart(t, cfg)
		p := s.accept(control.Connack{AuthMethod: "long"})
		if n := len(p.connect.AuthData); n != 65_535 {
			t.Errorf("CONNECT has %d bytes", n)
		}
		connect(t, c)
		var field *client.FieldError
		if failed := eventsOf[client.ConnectFailed](events); len(failed) != 1 || !errors.As(failed[0].Err, &field) || field.Field != "Authentication Data" {
			t.Errorf("events: %+v", failed)
		}
		if err := c.Reauthenticate(t.Context()); !errors.As(err, &field) {
			t.Errorf("Reauthenticate: %v", err)
		}
	})
}

// namedAuth has a method, but no data.
type namedAuth string

func (n namedAuth) Method() string                                 { return string(n) }
func (namedAuth) Start(context.Context) ([]byte, error)            { return nil, nil }
func (namedAuth) Continue(context.Context, []byte) ([]byte, error) { return nil, nil }
func (namedAuth) Done(context.Context, []byte) error               { return nil }
