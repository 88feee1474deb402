package client

import (
	"errors"
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
	PhaseWaiting                 // between two attempts
	PhaseEnding                  // Close, Drain, or a fatal error is ending the client
	PhaseEnded                   // all goroutines have ended, see Client.Done
)

// String returns the phase's name in lower case.
func (p Phase) String() string {
	return nameOf(p, "phase", "idle", "connecting", "connected", "waiting", "ending", "ended")
}

// ConnectionState describes the connection of a client. Each change of the phase
// is also an event: Connecting, Connected, ConnectFailed, Disconnected, Stopped.
type ConnectionState struct {
	Phase   Phase
	Since   time.Time // when the phase began
	Server  string    // of the connection or attempt, or of the last one; without a password
	Attempt int       // number of the attempt since the last connection, from 1; 0: none
	Err     error     // why the last attempt failed or the last connection ended; nil while connected
	RetryAt time.Time // while waiting: when the next attempt begins, unless NetworkChanged is called
	// DisconnectedSince is since when there has been no connection, across attempts: when the last
	// one ended, or, if there was none, when Start was called, or New before that. Zero while connected.
	DisconnectedSince time.Time
	// StoreErr is why the store takes no messages now, whatever the phase is: a
	// *persistence.DegradedError. Nil: it takes them.
	StoreErr error
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

// enter begins a phase. Server and attempt are kept where next has none. After
// PhaseEnding there is no way back.
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
	case t.state.Phase == PhaseIdle: // New, or Start
		next.DisconnectedSince = next.Since
	}
	t.state = next
	t.changed.Notify()
}

// store notes why the store takes no messages; nil: it does. It returns how long it did not.
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

// disconnected notes that the connection has ended.
func (t *phaseTracker) disconnected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.DisconnectedSince = time.Now()
}
