package client

import (
	"fmt"
	"time"
)

// Phase is where a client stands.
type Phase uint8

const (
	PhaseIdle       Phase = iota // made, not started
	PhaseConnecting              // an attempt is under way, from dialing to CONNACK
	PhaseConnected               // the server has accepted
	PhaseWaiting                 // between two attempts
	PhaseEnding                  // Close, Drain's end, or an end by itself
	PhaseEnded                   // nothing is left, see Client.Done
)

var phaseNames = [...]string{"idle", "connecting", "connected", "waiting", "ending", "ended"}

// String returns the phase's name in lower case.
func (p Phase) String() string {
	if int(p) >= len(phaseNames) {
		return fmt.Sprintf("phase(%d)", uint8(p))
	}
	return phaseNames[p]
}

// ConnectionState is where a client stands, and since when. Each change of the phase is an
// event too: Connecting, Connected, ConnectFailed, Disconnected, Stopped.
type ConnectionState struct {
	Phase   Phase
	Since   time.Time // of the phase
	Server  string    // of the connection or attempt, or of the last one; without a password
	Attempt int       // from 1, counted since there was a connection; 0: none was made since
	Err     error     // why the last attempt failed or the last connection ended; nil while connected
	RetryAt time.Time // while waiting: when the next attempt begins, if nothing hurries it
}

// State returns where the client stands.
func (c *Client) State() ConnectionState {
	if c == nil {
		return ConnectionState{Phase: PhaseEnded, Err: ErrNilClient}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stood
}

// enter notes the next phase.
func (c *Client) enter(next ConnectionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.enterLocked(next)
}

// enterLocked does, with the lock held. From the end there is no way back.
func (c *Client) enterLocked(next ConnectionState) {
	if c.stood.Phase >= PhaseEnding && next.Phase <= c.stood.Phase {
		return
	}
	next.Since = time.Now()
	c.stood = next
}
