package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// logRecorder is a slog.Handler that keeps what it gets.
type logRecorder struct {
	mu   sync.Mutex
	list []slog.Record
	also func(slog.Record) // nil: nothing
}

func (l *logRecorder) Enabled(context.Context, slog.Level) bool { return true }

func (l *logRecorder) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *logRecorder) WithGroup(string) slog.Handler { return l }

func (l *logRecorder) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	l.list = append(l.list, r.Clone())
	l.mu.Unlock()
	if l.also != nil {
		l.also(r)
	}
	return nil
}

// line is a record as a test looks at it.
type line struct {
	level slog.Level
	text  string
	attrs map[string]string
}

// of returns the lines of a kind; "": all.
func (l *logRecorder) of(kind string) (lines []line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.list {
		found := line{r.Level, r.Message, map[string]string{}}
		r.Attrs(func(a slog.Attr) bool { found.attrs[a.Key] = a.Value.String(); return true })
		if kind == "" || found.attrs["kind"] == kind {
			lines = append(lines, found)
		}
	}
	return lines
}

// defaultLog has slog.Default write to a logRecorder until the test ends.
func defaultLog(t *testing.T) *logRecorder {
	l, before := &logRecorder{}, slog.Default()
	slog.SetDefault(slog.New(l))
	t.Cleanup(func() { slog.SetDefault(before) })
	return l
}

// The first of a kind is a line at once, and the rest of the minute is one line. The
// last one is not lost when the client closes.
func TestLosses_AreSummarized(t *testing.T) {
	lines := defaultLog(t)
	receiving(t, nil, nil, func(t *testing.T, c *client.Client, p *peer, _ *recorder) {
		for i := range 130 { // for more than two minutes
			p.publish(wire.Publish{Topic: fmt.Sprint("t/", i), Payload: []byte("secret")})
			time.Sleep(time.Second)
		}
		p.publish(wire.Publish{Topic: "last"})
		synctest.Wait()
		must(t, c.Close())
		got := lines.of("unhandled")
		if len(got) != 4 {
			t.Fatalf("%d lines, want the first, two summaries and the rest at Close: %v", len(got), got)
		}
		total := 1
		for _, l := range got[1:] {
			more := 0
			if _, err := fmt.Sscanf(l.text, "%d more: received message refused", &more); err != nil || l.attrs["more"] != fmt.Sprint(more) {
				t.Errorf("a summary is %v", l)
			}
			total += more
		}
		if total != 131 || got[0].attrs["topic"] != "t/0" || got[3].attrs["topic"] != "last" {
			t.Errorf("%d of 131 were counted in %v", total, got)
		}
	})
}

// A week without a server: a line each minute, and not one for each attempt.
func TestLosses_OutageDoesNotFloodTheLog(t *testing.T) {
	lines := defaultLog(t)
	withScript(t, func(t *testing.T, s *script) {
		cfg := testConfig("c", &recorder{}, func() net.Conn { near, far := net.Pipe(); _ = far.Close(); return near })
		cfg.OnEvent = nil
		cfg.Connection.Backoff = reliability.Backoff{Min: 10 * time.Second, Max: 10 * time.Second}
		c := mustStart(t, cfg)
		time.Sleep(7 * 24 * time.Hour)
		if n := c.Stats().ConnectFailures; n < 60_000 {
			t.Errorf("%d attempts failed", n)
		}
		must(t, c.Close())
		if n := len(lines.of("")); n > 7*24*60+2 || n < 7*24*60-2 {
			t.Errorf("%d lines in %d minutes", n, 7*24*60)
		}
	})
}

// The first failed attempt after a connection is logged at once, and so is each failed attempt
// before a long delay.
func TestLosses_OutageIsVisible(t *testing.T) {
	lines := defaultLog(t)
	withServers(t, func(t *testing.T, a addressed) {
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.Connection.Backoff.Rand = func() float64 { return 1 }
		mustStart(t, cfg)
		began := time.Now()
		fail := func(n int) {
			for range n {
				<-a.asked
				(<-a.conns).Close()
			}
			synctest.Wait()
		}
		want := func(want string) {
			t.Helper()
			got := fmt.Sprint("after ", time.Since(began), ":")
			for _, l := range lines.of("connect-failed") {
				got += " +" + l.attrs["more"] + " " + l.attrs["retry_in"]
			}
			if got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		fail(2)
		want("after 2s: + 2s")
		<-a.asked
		p := a.accept(control.Connack{})
		synctest.Wait()
		want("after 6s: + 2s +1 4s") // counted until the connection
		time.Sleep(20 * time.Second)
		p.close()
		fail(1)
		want("after 28s: + 2s +1 4s + 4s")
		fail(5)
		want("after 2m28s: + 2s +1 4s + 4s +3 32s + 1m0s + 1m0s")
	})
}

// A handler of slog may call the client: no lock is held.
func TestLosses_LogHandlerMayCallTheClient(t *testing.T) {
	for name, call := range map[string]func(c *client.Client){
		"Close":   func(c *client.Client) { _ = c.Close() },
		"Stats":   func(c *client.Client) { c.Stats(); c.State(); c.Session() },
		"Publish": func(c *client.Client) { _, _ = c.Publish(context.Background(), client.Message{Topic: "log", QoS: 1}) },
		"panic":   func(*client.Client) { panic("no") },
	} {
		t.Run(name, func(t *testing.T) {
			for _, k := range client.LossKinds {
				if k.Event == nil || name == "Close" && k.Name != "unhandled" && k.Name != "message-dropped" {
					continue // Close would end what is provoked
				}
				t.Run(k.Name, func(t *testing.T) {
					lines := defaultLog(t)
					b := &lossBed{T: t}
					lines.also = func(r slog.Record) {
						if c := b.client(); c != nil && r.Level >= slog.LevelWarn {
							call(c)
						}
					}
					provoked[k.Name](b)
					if name != "panic" {
						return
					}
					logger := func(e client.CallbackPanicked) bool { return e.Function == "Logger" }
					if !slices.ContainsFunc(eventsOf[client.CallbackPanicked](&b.events), logger) || b.c.Stats().Panics == 0 {
						t.Error("the panics are not reported and counted")
					}
				})
			}
		})
	}
}

func TestLosses_DiscardHandlerLogsNothing(t *testing.T) {
	lines := defaultLog(t)
	silent := func(cfg *client.Config) { cfg.Logger = slog.New(slog.DiscardHandler) }
	b := &lossBed{T: t}
	received(silent, nil, appMessage(1, 1, "x"))(b)
	if got := lines.of(""); len(got) != 0 || b.c.Stats().Unhandled != 1 {
		t.Errorf("%v was logged", got)
	}
}

// slog.SetDefault also counts after New.
func TestLosses_UsePresentDefaultLogger(t *testing.T) {
	before := defaultLog(t)
	var after *logRecorder
	offline(func(cfg *client.Config) {
		cfg.Store.Options.Limits.MaxMessages, cfg.Store.WhenFull = 1, client.DropNewest
	}, func(b *lossBed) {
		after = defaultLog(t)
		publish(b, b.c, "t", "x", client.AtLeastOnce)
		publish(b, b.c, "t", "x", client.AtLeastOnce)
	})(&lossBed{T: t})
	if len(before.of("")) != 0 || len(after.of("message-dropped")) != 1 {
		t.Errorf("the first logger has %v, the second %v", before.of(""), after.of(""))
	}
}
