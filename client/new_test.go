package client_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/link"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/reliability"
)

// holdVariable names the folder that a second process of this test opens.
const holdVariable = "MOORING_TEST_HOLD"

// hold is what that second process does: it has a client on the folder until
// its input ends.
func hold(dir string) {
	c, err := client.New(client.Config{Servers: []string{"mqtt://server"}, ClientID: "other", Dir: dir})
	fmt.Println("open:", err)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	if err == nil {
		_ = c.Close()
	}
}

func TestNew_FolderInUseByAnotherProcess(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), holdVariable+"="+dir)
	in, err := other.StdinPipe()
	must(t, err)
	out, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "open: <nil>\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", Dir: dir}
	var locked *persistence.LockedError
	if _, err := client.New(cfg); !errors.As(err, &locked) || locked.PID != other.Process.Pid || locked.Dir != dir {
		t.Errorf("New returned %v, want a *persistence.LockedError with process %d", err, other.Process.Pid)
	}
	must(t, in.Close())
	must(t, other.Wait())
	mustNew(t, cfg)
	if _, err := client.New(cfg); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("a second client in this process: %v", err)
	}
}

func TestNew_UnusableFolders(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, dir string) string{
		"a file in its place": func(t *testing.T, dir string) string {
			must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
			return filepath.Join(dir, "file")
		},
		"a parent that is a file": func(t *testing.T, dir string) string {
			must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
			return filepath.Join(dir, "file", "store")
		},
		"a folder that nobody may write to": func(*testing.T, string) string { return "/proc/self/fdinfo" },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := client.New(client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", Dir: spoil(t, t.TempDir())})
			var folder *persistence.FolderError
			if c != nil || !errors.As(err, &folder) || folder.Fix == "" {
				t.Errorf("New returned %v, %v, want a *persistence.FolderError with a fix", c, err)
			}
		})
	}
}

func TestNew_FolderOfNewerRelease(t *testing.T) {
	dir := t.TempDir()
	cfg := client.Config{Servers: []string{"mqtt://server"}, ClientID: "c", Dir: dir}
	c, err := client.New(cfg)
	must(t, err)
	publish(t, c, "t", "x", client.AtLeastOnce)
	must(t, c.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "*.mlog"))
	must(t, err)
	for _, path := range segments { // docs/format.md
		b, err := os.ReadFile(path)
		must(t, err)
		binary.LittleEndian.PutUint16(b[8:], persistence.FormatVersion+1)
		binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], crc32.MakeTable(crc32.Castagnoli)))
		must(t, os.WriteFile(path, b, 0o600))
	}
	var newer *persistence.VersionError
	if c, err := client.New(cfg); c != nil || !errors.As(err, &newer) {
		t.Errorf("New returned %v, %v, want a *persistence.VersionError", c, err)
	}
}

func TestConnect_UnreachableServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events recorder
		var tried []string
		cfg := testConfig("c", &events, nil)
		cfg.Servers = []string{"mqtt://a", "mqtt://b:1"}
		no := errors.New("no route")
		cfg.Connection.Dial = func(_ context.Context, u *url.URL) (net.Conn, error) {
			tried = append(tried, u.Host)
			return nil, no
		}
		c := mustStart(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.AwaitConnection(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("AwaitConnection returned %v", err)
		}
		publish(t, c, "t", "x", client.AtLeastOnce) // is kept
		must(t, c.Close())
		failed := eventsOf[client.ConnectFailed](&events)
		if len(failed) < 5 || !errors.Is(failed[0].Err, no) || uint64(len(failed)) != c.Stats().ConnectFailures {
			t.Errorf("%d ConnectFailed events: %v", len(failed), failed)
		}
		if got := fmt.Sprint(tried[:4]); got != "[a:1883 b:1 a:1883 b:1]" {
			t.Errorf("the servers tried were %v", got)
		}
	})
}

func TestConnect_ReasonCodes(t *testing.T) {
	fatal := "81 82 84 85 86 87 8C 90 95 99 9A 9B"
	for code := 0x80; code <= 0x9F; code++ {
		name := fmt.Sprintf("%02X", code)
		t.Run(name, func(t *testing.T) {
			withScript(t, func(t *testing.T, s *script) {
				var events recorder
				c := mustStart(t, testConfig("c", &events, s.dial))
				s.accept(control.Connack{Reason: byte(code), ReasonString: "why", ServerReference: "there"})
				synctest.Wait()
				var e *client.ConnectionError
				if strings.Contains(fatal, name) {
					<-c.Done()
					if err := c.Err(); !errors.As(err, &e) || e.Code != byte(code) || e.Reason != "why" || e.ServerReference != "there" {
						t.Errorf("Err is %v", err)
					}
					return
				}
				if !validConnack[byte(code)] {
					return // not a CONNACK: what it does is the packet's business
				}
				got := eventsOf[client.ConnectFailed](&events)
				if len(got) != 1 || !errors.As(got[0].Err, &e) || e.Code != byte(code) || (got[0].Delay == 0) != (e.Code == 0x9C || e.Code == 0x9D) {
					t.Errorf("ConnectFailed events are %v", got)
				}
				s.accept(control.Connack{})
				connect(t, c)
			})
		})
	}
}

// validConnack are the transient reason codes that table 3-1 gives CONNACK.
var validConnack = map[byte]bool{0x80: true, 0x83: true, 0x88: true, 0x89: true, 0x8A: true, 0x97: true, 0x9C: true, 0x9D: true, 0x9F: true}

func TestConnect_MissingConnack(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		var events recorder
		cfg := testConfig("c", &events, s.dial)
		cfg.Connection.ConnectTimeout = 7 * time.Second
		c := mustStart(t, cfg)
		began := time.Now()
		s.open().ended()
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("the attempt took %v, want 7s", took)
		}
		s.accept(control.Connack{})
		connect(t, c)
		if got := eventsOf[client.ConnectFailed](&events); len(got) != 1 || !errors.Is(got[0].Err, context.DeadlineExceeded) {
			t.Errorf("ConnectFailed events are %v", got)
		}
	})
}

func TestStart_AwaitConnection(t *testing.T) {
	withScript(t, func(t *testing.T, s *script) {
		c := mustNew(t, testConfig("c", &recorder{}, s.dial))
		waited := make(chan error, 1)
		go func() { waited <- c.AwaitConnection(t.Context()) }() // before Start
		synctest.Wait()
		start(t, c)
		if err := c.Start(t.Context()); !errors.Is(err, client.ErrStarted) {
			t.Errorf("a second Start returned %v", err)
		}
		s.accept(control.Connack{})
		must(t, <-waited)
		if !c.Connected() {
			t.Error("not connected")
		}
		must(t, c.Close())
		if err := c.Err(); err != nil {
			t.Errorf("Err after Close is %v", err)
		}
	})
}

func TestErrors_ContainAdvice(t *testing.T) {
	for _, err := range []error{
		client.ErrClosed, client.ErrDraining, client.ErrNotConnected, client.ErrStarted, client.ErrSessionLost, client.ErrAckTimeout,
		&client.ConfigError{Field: "F", Problem: "is wrong; do this"}, &client.RefusedError{Code: 0x87}, &client.ExpiredError{}, &client.DrainError{Pending: 1, Cause: client.ErrClosed},
		&client.PoisonError{Attempts: 5, Code: 0x95}, &client.PanicError{Value: "v"},
		client.ErrConflated, client.ErrNoReceipts, client.ErrNoDeadLetters, client.ErrUnknownSession, client.ErrKeepAlive, client.ErrTooManyFilters, client.ErrNoneToAuthenticate,
		&client.DroppedError{}, &client.DroppedError{Cause: client.ErrConflated}, &client.InboundFullError{}, &client.RetainedLimitError{},
		&client.SessionError{}, &client.SessionError{Present: true}, &client.SessionError{ClientID: "c"}, &client.SessionError{TakenOver: true}, &client.StatusSubscriptionError{Err: client.ErrClosed},
		&client.DamagedError{}, &client.CredentialsError{Err: client.ErrClosed}, &client.TLSFileError{Err: client.ErrClosed}, &client.AuthError{Err: client.ErrClosed},
		&client.ConnectionError{Code: 0x87}, &client.ConnectionError{Code: 0x9C}, &client.ConnectionError{Code: 0x8A}, &client.ConnectionError{Code: 0x8E}, &client.ConnectionError{Code: 0x80},
	} {
		text := err.Error()
		before, after, _ := strings.Cut(text, "; ")
		if _, plain := err.(*client.RefusedError); !plain && after == "" || before == "" {
			t.Errorf("%T %q does not name a remedy", err, text)
		}
		if !strings.HasPrefix(text, "client: ") && !strings.HasPrefix(text, "mqtt: ") {
			t.Errorf("%T %q does not say whose it is", err, text)
		}
	}
	if !errors.Is(client.ErrNoneToAuthenticate, client.ErrNotConnected) {
		t.Error("no connection to authenticate on is no ErrNotConnected")
	}
	for _, err := range []reliability.ReasonCoder{&client.RefusedError{Code: 0x97}, &client.ConnectionError{Code: 0x97}, &client.PoisonError{Code: 0x97}} {
		if err.ReasonCode() != 0x97 {
			t.Errorf("%T hides its reason code", err)
		}
	}
}

// TestConnectionError_Advice: it promises another attempt where there will be
// one, and only there.
func TestConnectionError_Advice(t *testing.T) {
	for code, want := range map[byte]string{0x84: "MQTT 5", 0x8C: "Config.Connection.Auth", 0x86: "Credentials", 0x87: "Password", 0x8E: "ClientID", 0x9D: "Servers", 0x9A: "Will", 0x81: "CONNECT"} {
		if got := client.ToConnectionError(&link.ConnackError{Reason: code}).Error(); !strings.Contains(got, want) {
			t.Errorf("0x%02X: %q does not mention %s", code, got, want)
		}
	}
	moved := client.ToConnectionError(&link.DisconnectError{Reason: 0x9D, ServerReference: "other:1883"}).Error()
	if !strings.Contains(moved, "other:1883") {
		t.Errorf("%q does not say where to", moved)
	}
	const again = "the client tries again"
	for code := 0x80; code < 0x100; code++ {
		refused := client.ToConnectionError(&link.ConnackError{Reason: byte(code)}).Error()
		if strings.Contains(refused, again) && reliability.OnConnack(byte(code), false) == reliability.ActionStop {
			t.Errorf("CONNACK: the client stops, and says %q", refused)
		}
		ended := client.ToConnectionError(&link.DisconnectError{Reason: byte(code)}).Error()
		if strings.Contains(ended, "will not help") && reliability.OnDisconnect(byte(code)) != reliability.ActionStop {
			t.Errorf("DISCONNECT: it is tried again, and says %q", ended)
		}
	}
}

// TestConnectionError_HasPublicTypes: errors of the connection are found under the
// types of this package, at any depth.
func TestConnectionError_HasPublicTypes(t *testing.T) {
	violation := &wire.Error{Code: 0x82, Packet: wire.SUBACK, Detail: "d"}
	inner := errors.New("inner")
	for name, wrap := range map[string]func(error) error{
		"itself":  func(err error) error { return err },
		"wrapped": func(err error) error { return fmt.Errorf("dialing: %w", err) },
		"joined":  func(err error) error { return errors.Join(inner, err) },
		"closing": func(err error) error { return &link.CloseError{Reason: 0x82, Err: err} },
	} {
		var protocol *client.ProtocolError
		if err := client.ToConnectionError(wrap(violation)); !errors.As(err, &protocol) || *protocol != (client.ProtocolError{0x82, "SUBACK", "d"}) || protocol.ReasonCode() != 0x82 {
			t.Errorf("%s: %v is no ProtocolError", name, err)
		}
		for _, c := range []struct {
			internal error
			public   any
		}{
			{&link.AuthError{Method: "m", Err: inner}, new(*client.AuthError)},
			{&link.AuthError{Method: "m", Err: fmt.Errorf("%w: %w", inner, &wire.FieldError{Field: "F"})}, new(*client.AuthError)},
			{&link.TLSFileError{File: "f", Err: inner}, new(*client.TLSFileError)},
			{&link.ProxyError{Proxy: "p", Server: "s", Err: inner}, new(*client.ProxyError)},
		} {
			err := client.ToConnectionError(wrap(c.internal))
			if !errors.As(err, c.public) || !errors.Is(err, inner) {
				t.Errorf("%s: %v is no %T", name, err, c.public)
			}
			if found := reflect.ValueOf(c.public).Elem().Interface().(error); found.Error() != c.internal.Error() || !errors.Is(errors.Unwrap(found), inner) {
				t.Errorf("%s: %q, want %q", name, found, c.internal)
			}
			if errors.As(c.internal, new(*wire.FieldError)) && (!errors.As(err, new(*client.FieldError)) || !errors.As(errors.Unwrap(reflect.ValueOf(c.public).Elem().Interface().(error)), new(*client.FieldError))) {
				t.Errorf("%s: %v hides its FieldError", name, err)
			}
			if errors.As(err, new(*client.ConfigError)) {
				t.Errorf("%s: %v is a ConfigError", name, err)
			}
		}
	}
	if err := client.ToConnectionError(inner); err != inner {
		t.Errorf("%v was converted", err)
	}
}
