package status_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client/presence"
	"github.com/mooring-mqtt/mooring/internal/leaktest"
	"github.com/mooring-mqtt/mooring/internal/session"
	"github.com/mooring-mqtt/mooring/internal/status"
	"github.com/mooring-mqtt/mooring/internal/wire"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var errRefused = errors.New("refused")

// connection records the messages published on it.
type connection struct {
	mu       sync.Mutex
	began    time.Time
	log      []string
	err      error // returned by PublishStatus
	answer   func(answered func(byte, error))
	cause    error
	blocking chan struct{} // PublishStatus waits for it
}

func accept(answered func(byte, error)) { answered(0, nil) }

func (c *connection) PublishStatus(p *wire.Publish, answered func(byte, error)) error {
	if c.blocking != nil {
		<-c.blocking
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if p.Topic != "status/c" || p.QoS != 1 || !p.Retain {
		return fmt.Errorf("published %+v", p)
	}
	c.log = append(c.log, fmt.Sprintf("%v %s", time.Since(c.began), p.Payload))
	if c.answer != nil {
		go c.answer(answered)
	}
	return nil
}

func (c *connection) Cause() error { return c.cause }

func (c *connection) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.log, lines) {
		t.Errorf("published %q, want %q", c.log, lines)
	}
}

// rig is a publisher and its reports.
type rig struct {
	*status.Publisher
	failed    []error
	contested []presence.BootID
}

func newRig(f status.Format) *rig {
	r := &rig{}
	r.Publisher = status.New(status.Config{Topic: "status/c", Format: f,
		Failed:    func(err error) { r.failed = append(r.failed, err) },
		Contested: func(b presence.BootID) { r.contested = append(r.contested, b) },
	})
	return r
}

var plain = status.Format{Online: []byte("on"), Offline: []byte("off"), Heartbeat: 10 * time.Second}

// inBubble runs a test with a publisher on a connection that accepts all messages.
func inBubble(t *testing.T, f status.Format, test func(t *testing.T, r *rig, c *connection)) {
	synctest.Test(t, func(t *testing.T) {
		test(t, newRig(f), &connection{began: time.Now(), answer: accept})
	})
}

func (r *rig) run(c *connection, d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	r.Run(ctx, c)
}

func TestPublisher_BirthHeartbeatsAndCorrection(t *testing.T) {
	inBubble(t, plain, func(t *testing.T, r *rig, c *connection) {
		r.Birth(c)
		go func() { time.Sleep(15 * time.Second); r.Received([]byte("off")) }()
		r.run(c, 30*time.Second)
		c.want(t, "0s on", "10s on", "15.25s on", "25.25s on")
		if got, want := r.Stats(), (status.Stats{Births: 1, Heartbeats: 2, Corrections: 1}); got != want || len(r.failed) > 0 {
			t.Errorf("counted %+v, want %+v; failed: %v", got, want, r.failed)
		}
	})
}

func TestPublisher_OfflineIsLast(t *testing.T) {
	inBubble(t, plain, func(t *testing.T, r *rig, c *connection) {
		r.Birth(c)
		go r.run(c, time.Hour)
		time.Sleep(time.Second)
		r.Received([]byte("off"))
		time.Sleep(100 * time.Millisecond) // the correction is not due yet
		if !<-r.End(c, true) {
			t.Error("offline is not accepted")
		}
		time.Sleep(time.Hour) // no heartbeat and no correction
		r.Birth(c)
		r.Received([]byte("off"))
		time.Sleep(time.Hour)
		c.want(t, "0s on", "1.1s off")
	})
}

// A birth that is being published when End is called precedes the offline message.
func TestPublisher_EndWaitsForABirth(t *testing.T) {
	inBubble(t, plain, func(t *testing.T, r *rig, c *connection) {
		c.blocking = make(chan struct{})
		go r.Birth(c)
		synctest.Wait()
		done := make(chan bool)
		go func() { done <- <-r.End(c, true) }()
		for range 100 {
			runtime.Gosched() // End waits for a mutex, so the bubble's time would not advance
		}
		close(c.blocking)
		<-done
		c.want(t, "0s on", "0s off")
	})
}

func TestPublisher_End(t *testing.T) {
	for name, tt := range map[string]struct {
		offline  bool
		err      error
		code     byte
		answer   error
		accepted bool
		failed   int
	}{
		"accepted":            {offline: true, accepted: true},
		"refused":             {offline: true, code: 0x97, answer: errRefused, failed: 1},
		"lost":                {offline: true, answer: session.ErrSessionLost},
		"not sent":            {offline: true, err: session.ErrWindowFull},
		"left to the will":    {},
		"left to it, no room": {err: session.ErrWindowFull},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, plain, func(t *testing.T, r *rig, c *connection) {
				c.err = tt.err
				c.answer = func(answered func(byte, error)) { answered(tt.code, tt.answer) }
				if got := <-r.End(c, tt.offline); got != tt.accepted || len(r.failed) != tt.failed {
					t.Errorf("accepted: %v, failed: %v", got, r.failed)
				}
				if !tt.offline {
					c.want(t)
				}
			})
		})
	}
}

func TestPublisher_ReportsFailures(t *testing.T) {
	for name, tt := range map[string]struct {
		err    error // returned by PublishStatus
		code   byte  // reason code of the answer
		answer error
		cause  error
		failed int
		again  bool // a second later
	}{
		"no room":                     {err: session.ErrWindowFull, failed: 1, again: true},
		"the server cannot accept it": {err: errRefused, failed: 1},
		"the connection has ended":    {err: errRefused, cause: errors.New("EOF")},
		"refused for now":             {code: 0x97, answer: errRefused, failed: 1, again: true},
		"refused":                     {code: 0x87, answer: errRefused, failed: 1, again: true},
		"deferred":                    {err: &session.DeferredError{Retry: time.Now()}, failed: 1},
		"deferred with its topic":     {answer: &session.DeferredError{}},
		"the session is lost":         {answer: session.ErrSessionLost},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, plain, func(t *testing.T, r *rig, c *connection) {
				c.err, c.cause = tt.err, tt.cause
				c.answer = func(answered func(byte, error)) { answered(tt.code, tt.answer) }
				r.Birth(c)
				synctest.Wait()
				if len(r.failed) != tt.failed {
					t.Errorf("reported %v, want %d failures", r.failed, tt.failed)
				}
				c.log, c.err, c.cause, c.answer = nil, nil, nil, accept
				r.run(c, 1500*time.Millisecond)
				if tt.again {
					c.want(t, "1s on")
				} else {
					c.want(t)
				}
			})
		})
	}
}

// A message that was not sent before its connection ended does not delay the next heartbeats.
func TestPublisher_EndedConnectionLeavesNothingOpen(t *testing.T) {
	inBubble(t, plain, func(t *testing.T, r *rig, c *connection) {
		c.err, c.cause = errors.New("not connected"), errors.New("EOF")
		r.Birth(c)
		next := &connection{began: time.Now(), answer: accept}
		r.Birth(next)
		r.run(next, 25*time.Second)
		next.want(t, "0s on", "10s on", "20s on")
	})
}

func TestPublisher_StructuredPayloads(t *testing.T) {
	boot, _ := presence.ParseBootID("0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a")
	f := status.Format{Structured: true, Boot: boot, Version: "1.4.2", Heartbeat: 1500 * time.Millisecond}
	inBubble(t, f, func(t *testing.T, r *rig, c *connection) {
		r.Birth(c)
		<-r.End(c, true)
		now := time.Now().UTC().Format(time.RFC3339Nano)
		c.want(t,
			`0s {"state":"online","boot":"`+boot.String()+`","time":"`+now+`","reason":"birth","version":"1.4.2","interval":2}`,
			`0s {"state":"offline","boot":"`+boot.String()+`","time":"`+now+`","reason":"close","version":"1.4.2"}`)
		will, err := presence.Parse(f.Payload(presence.Offline, presence.ReasonWill))
		if err != nil || !will.Time.IsZero() || will.Boot != boot || will.State != presence.Offline || will.Interval != 0 {
			t.Errorf("will %+v, %v", will, err)
		}
	})
}

// TestPublisher_Received covers which messages count as this client's, and which are corrected.
func TestPublisher_Received(t *testing.T) {
	boot, _ := presence.ParseBootID("0190b8f0-7d2a-7c11-8a44-1f2e3d4c5b6a")
	of := func(state presence.State, b presence.BootID) []byte {
		return presence.Status{State: state, Boot: b}.Append(nil)
	}
	other := presence.BootID{1}
	structured := status.Format{Structured: true, Boot: boot}
	for _, tt := range []struct {
		format    status.Format
		payload   []byte
		own       bool
		corrected bool
		contested bool
	}{
		{structured, of(presence.Online, boot), true, false, false},
		{structured, of(presence.Online, other), false, false, true},
		{structured, of(presence.Offline, boot), false, true, false},
		{structured, of(presence.Offline, other), false, true, false},
		{structured, []byte("offline"), false, true, false},
		{structured, []byte("online"), false, false, true},
		{structured, nil, false, false, false},
		{structured, []byte("{}"), false, false, false},
		{plain, []byte("on"), true, false, false},
		{plain, []byte("off"), false, true, false},
		{plain, []byte("online"), true, false, false}, // known format, but no boot ID
		{plain, []byte("offline"), false, true, false},
		{plain, of(presence.Online, other), false, false, true},
		{plain, of(presence.Offline, other), false, true, false},
		{plain, []byte("what?"), false, false, false},
		{plain, nil, false, false, false},
	} {
		tt.format.Heartbeat = 0
		inBubble(t, tt.format, func(t *testing.T, r *rig, c *connection) {
			r.Birth(c)
			synctest.Wait()
			r.Received(tt.format.Payload(presence.Online, presence.ReasonBirth)) // the echo
			if own := r.Received(tt.payload); own != tt.own {
				t.Errorf("%q: own %v", tt.payload, own)
			}
			r.run(c, time.Minute)
			if n := r.Stats(); (n.Corrections == 1) != tt.corrected || (len(r.contested) == 1) != tt.contested {
				t.Errorf("%q: %+v, contested by %v", tt.payload, n, r.contested)
			}
		})
	}
}

func TestPublisher_WithoutATopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := status.New(status.Config{})
		c := &connection{}
		p.Birth(c)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		p.Run(ctx, c)
		if <-p.End(c, true) || p.Stats() != (status.Stats{}) {
			t.Error("a message was published")
		}
		c.want(t)
	})
}

func TestPublisher_SubscribedReportsOnce(t *testing.T) {
	p := status.New(status.Config{})
	for i, accepted := range []bool{true, false, false, true, true, false} {
		if got, want := p.Subscribed(accepted), i == 1 || i == 5; got != want {
			t.Errorf("answer %d: report %v, want %v", i, got, want)
		}
	}
}
