package client

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/internal/notify"
	"github.com/mooring-mqtt/mooring/persistence"
)

// Phase is the phase of a client's life that ConnectionState reports.
type Phase uint8

const (
	PhaseIdle       Phase = iota // created, not started
	PhaseConnecting              // an attempt is in progress, from dialing to CONNACK
	PhaseConnected               // the server has accepted the connection
	PhaseWaiting                 // waiting for the next attempt
	PhaseEnding                  // the client is ending, after Close, Drain or a fatal error
	PhaseEnded                   // all goroutines have ended, see Client.Done
)

// String returns the phase's name in lower case.
func (p Phase) String() string {
	return nameOf(p, "phase", "idle", "connecting", "connected", "waiting", "ending", "ended")
}

// ConnectionState describes the connection of a client. The client also reports each change of the
// phase as an event: Connecting, Connected, ConnectFailed, Disconnected or Stopped.
type ConnectionState struct {
	Phase   Phase
	Since   time.Time // when the phase began
	Server  string    // URL for the current or last connection or attempt, without its password
	Attempt int       // number of the attempt since the last connection, from 1; 0 before the first attempt
	Err     error     // why the last attempt failed or the last connection ended; nil while connected
	RetryAt time.Time // in PhaseWaiting, when the next attempt begins, unless NetworkChanged is called earlier
	// DisconnectedSince is when the last connection ended. Before the first connection, it is the
	// time at which Start was called. Before Start, it is the time at which New was called.
	// DisconnectedSince is zero while the client is connected. Failed attempts to connect do not
	// change it.
	DisconnectedSince time.Time
	// StoreErr is a *persistence.DegradedError while the store accepts no messages. StoreErr is nil
	// while the store accepts messages. The value does not depend on the phase.
	StoreErr error
}

// LogValue implements slog.LogValuer. It leaves out fields that are zero.
func (s ConnectionState) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("phase", s.Phase.String())}
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"since", s.Since}, {"disconnected_since", s.DisconnectedSince}, {"retry_at", s.RetryAt}} {
		if !t.at.IsZero() {
			attrs = append(attrs, slog.Time(t.name, t.at))
		}
	}
	if s.Server != "" {
		attrs = append(attrs, slog.String("server", s.Server))
	}
	if s.Attempt > 0 && s.Phase != PhaseConnected {
		attrs = append(attrs, slog.Int("attempt", s.Attempt))
	}
	if s.Err != nil {
		attrs = append(attrs, slog.Any("error", s.Err))
	}
	if s.StoreErr != nil {
		attrs = append(attrs, slog.Any("store_error", s.StoreErr))
	}
	return slog.GroupValue(attrs...)
}

// phaseTracker holds the state of the connection.
type phaseTracker struct {
	changed notify.Broadcast

	mu    sync.Mutex
	state ConnectionState
}

func (t *phaseTracker) get() ConnectionState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

// enter begins a phase. It keeps Server and Attempt if next has none. After PhaseEnding, no earlier
// phase can begin.
func (t *phaseTracker) enter(next ConnectionState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Phase >= PhaseEnding && next.Phase <= t.state.Phase {
		return
	}
	if next.Server == "" {
		next.Server, next.Attempt = t.state.Server, t.state.Attempt
	}
	next.Since, next.StoreErr = time.Now(), t.state.StoreErr
	switch next.DisconnectedSince = t.state.DisconnectedSince; {
	case next.Phase == PhaseConnected:
		next.DisconnectedSince = time.Time{}
	case t.state.Phase == PhaseIdle: // New or Start was called
		next.DisconnectedSince = next.Since
	}
	t.state = next
	t.changed.Notify()
}

// store records why the store accepts no messages, or nil if it accepts them. It returns how long
// the store did not accept any.
func (t *phaseTracker) store(err *persistence.DegradedError) (took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := (*persistence.DegradedError)(nil); errors.As(t.state.StoreErr, &before) {
		took = time.Since(before.Since)
	}
	if t.state.StoreErr = nil; err != nil {
		t.state.StoreErr = err
	}
	t.changed.Notify()
	return took
}

// disconnected records the end of the connection.
func (t *phaseTracker) disconnected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.DisconnectedSince = time.Now()
}
