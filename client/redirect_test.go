package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

func TestRedirect_IsFollowed(t *testing.T) {
	// After a CONNACK, the target is tried at once. After a DISCONNECT, it is tried after the first
	// delay, because the server may have disconnected all clients.
	for name, tt := range map[string]struct {
		reason     byte
		reference  string
		ignore     bool
		connack    []string // attempts; the first server redirects, others refuse
		disconnect []string
	}{
		"for once": {0x9C, "else:1999", false, []string{"one:1883 0s", "else:1999 0s", "two:1883 0s", "one:1883 1s", "else:1999 1s"},
			[]string{"one:1883 0s", "else:1999 1s", "two:1883 1s", "two:1883 2s", "one:1883 2s", "else:1999 3s"}},
		"for good": {0x9D, "else", false, []string{"one:1883 0s", "else:1883 0s", "two:1883 0s", "else:1883 1s"},
			[]string{"one:1883 0s", "else:1883 1s", "two:1883 1s", "two:1883 2s", "else:1883 2s"}},
		"the first that is": {0x9C, "one:1883 [::1]:7", false, []string{"one:1883 0s", "[::1]:7 0s"}, []string{"one:1883 0s", "[::1]:7 1s"}},
		"none is named":     {0x9C, "", false, []string{"one:1883 0s", "two:1883 0s"}, []string{"one:1883 0s", "two:1883 1s"}},
		"nonsense":          {0x9D, "?? mqtts:// a@b", false, []string{"one:1883 0s", "two:1883 0s"}, []string{"one:1883 0s", "two:1883 1s"}},
		"ignored":           {0x9D, "else", true, []string{"one:1883 0s", "two:1883 0s"}, []string{"one:1883 0s", "two:1883 1s"}},
	} {
		for _, how := range []string{"CONNACK", "DISCONNECT"} {
			attempts := tt.connack
			if how == "DISCONNECT" {
				attempts = tt.disconnect
			}
			t.Run(name+" by "+how, func(t *testing.T) {
				withServers(t, func(t *testing.T, a addressed) {
					var events recorder
					cfg := a.config(&events, "mqtt://one", "mqtt://two")
					cfg.Connection.IgnoreRedirects = tt.ignore
					began := time.Now()
					mustStart(t, cfg)
					for _, want := range attempts {
						a.want(began, want)
						switch {
						case !strings.HasPrefix(want, "one"):
							a.accept(control.Connack{Reason: 0x88})
						case how == "CONNACK":
							a.accept(control.Connack{Reason: tt.reason, ServerReference: tt.reference})
						default:
							a.accept(control.Connack{}).send(control.AppendDisconnect(nil, &control.Disconnect{Reason: tt.reason, ServerReference: tt.reference}))
						}
					}
					synctest.Wait()
					for _, e := range eventsOf[client.Redirected](&events) {
						if e.From != "mqtt://one:1883" || e.Permanent != (tt.reason == 0x9D) || tt.ignore {
							t.Errorf("%+v", e)
						}
					}
					if n := len(eventsOf[client.Redirected](&events)); (n > 0) != (len(attempts) > 2 || strings.HasPrefix(attempts[1], "[")) {
						t.Errorf("%d redirections were reported", n)
					}
				})
			})
		}
	}
}

// The client does not follow two servers that redirect to each other indefinitely. It tries each of
// them once in a round.
func TestRedirect_LimitsRedirectsInARow(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		began := time.Now()
		mustStart(t, a.config(&recorder{}, "mqtt://one"))
		var path []string
		for range 8 {
			at := a.next(began)
			path = append(path, at)
			other := "one"
			if strings.HasPrefix(at, "one") {
				other = "two"
			}
			a.accept(control.Connack{Reason: 0x9C, ServerReference: other})
		}
		if got := strings.Join(path, ", "); got != "one:1883 0s, two:1883 0s, one:1883 1s, two:1883 1s, one:1883 2s, two:1883 2s, one:1883 3s, two:1883 3s" {
			t.Errorf("the way was %s", got)
		}
		<-a.asked
		p := a.accept(control.Connack{})
		time.Sleep(time.Minute) // stable: what was is forgotten
		p.send(control.AppendDisconnect(nil, &control.Disconnect{Reason: 0x9C, ServerReference: "two"}))
		if got := <-a.asked; got != "two:1883" {
			t.Errorf("sent to two, it went to %s", got)
		}
	})
}

func TestRedirect_BusyServerIsRetriedWithBackoff(t *testing.T) {
	for _, reason := range []byte{0x89, 0x97, 0x9F} {
		withServers(t, func(t *testing.T, a addressed) {
			var events recorder
			began := time.Now()
			mustStart(t, a.config(&events, "mqtt://one"))
			a.want(began, "one:1883 0s")
			a.accept(control.Connack{Reason: reason})
			a.want(began, "one:1883 30s")
			if e := eventsOf[client.ConnectFailed](&events)[0]; e.Action != reliability.ActionRetryLater || e.Delay != 30*time.Second || e.Attempt != 1 {
				t.Errorf("%+v", e)
			}
		})
	}
}

// A server that only sends on, and a target that is down for a while: it is found
// when it is back.
func TestRedirect_IsFollowedAgain(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		began := time.Now()
		cfg := a.config(&recorder{}, "mqtt://one")
		cfg.Connection.Backoff = reliability.Backoff{Min: 5 * time.Second, Max: 5 * time.Second} // an hour is long
		mustStart(t, cfg)
		for {
			switch at := <-a.asked; {
			case strings.HasPrefix(at, "one"):
				a.accept(control.Connack{Reason: 0x9C, ServerReference: "two"})
			case time.Since(began) < 10*time.Minute:
				(<-a.conns).Close()
			default:
				a.accept(control.Connack{})
				if d := time.Since(began); d > 11*time.Minute {
					t.Errorf("connected after %v", d)
				}
				return
			}
		}
	})
}

// What a server says that is in no list is not for good: nothing is replaced.
func TestRedirect_OfUnlistedServerIsTemporary(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		var events recorder
		mustStart(t, a.config(&events, "mqtt://one"))
		answers := map[string]control.Connack{"one:1883": {Reason: 0x9C, ServerReference: "two"}, "two:1883": {Reason: 0x9D, ServerReference: "three"}, "three:1883": {Reason: 0x88}}
		var path []string
		for range 4 {
			at := <-a.asked
			path = append(path, at)
			a.accept(answers[at])
		}
		if got := strings.Join(path, " "); got != "one:1883 two:1883 three:1883 one:1883" {
			t.Errorf("the way was %s", got)
		}
		for _, e := range eventsOf[client.Redirected](&events) {
			if e.Permanent {
				t.Errorf("%+v", e)
			}
		}
	})
}

// Servers that cannot be reached, have no room, or refuse a new client are passed over. Only if each
// refuses in turn does the client stop.
func TestServers_StopWhenEachRefuses(t *testing.T) {
	withServers(t, func(t *testing.T, a addressed) {
		began := time.Now()
		c := mustStart(t, a.config(&recorder{}, "mqtt://strict", "mqtt://stricter"))
		a.want(began, "strict:1883 0s")
		for _, step := range []struct {
			reason byte
			next   string
		}{{0x87, "stricter:1883"}, {0x88, "strict:1883"}, {0x86, "stricter:1883"}} {
			a.accept(control.Connack{Reason: step.reason})
			if at := <-a.asked; at != step.next {
				t.Errorf("after 0x%02X came %s, want %s", step.reason, at, step.next)
			}
		}
		a.accept(control.Connack{Reason: 0x87})
		<-c.Done()
		var refused *client.ConnectionError
		if err := c.Err(); !errors.As(err, &refused) || refused.Code != 0x87 {
			t.Errorf("it stopped with %v", err)
		}
	})
}
