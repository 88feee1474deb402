package subs

import (
	"errors"
	"time"

	"github.com/mooring-mqtt/mooring/reliability"
)

// retry is the time of the next retry. All refused wants of a connection share it, so that the
// table needs one timer and one random delay, and not one for each filter.
type retry struct {
	at       time.Time // zero: no want is to be requested again
	attempts int       // the lowest number of refusals of these wants
}

// refusals describes the refusals of a want.
type refusals struct {
	attempts int  // consecutive refusals on this connection
	code     byte // of the last one
	reported bool // a refusal was reported, and the server has not granted the want since
	again    bool // the want is requested again on this connection
}

// temporary reports whether a later request may succeed on the same connection, and returns the
// reason code. A code about the request itself, or about a feature of the server, is not temporary.
func temporary(err error) (code byte, passes bool) {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return 0, false
	}
	switch reliability.Classify(refused.Code) {
	case reliability.Invalid, reliability.Protocol:
		return refused.Code, false
	}
	return refused.Code, true
}

// refusedLocked records a refusal of a want. It reports whether the refusal is new: repetitions of
// a refusal on the same connection are not reported.
func (t *Table) refusedLocked(w *want, err error) (isNew bool) {
	code, passes := temporary(err)
	isNew = w.refused.attempts == 0 || w.refused.code != code
	attempts := w.refused.attempts
	w.refused = refusals{attempts: attempts + 1, code: code, reported: true, again: passes}
	if passes && t.cfg.Backoff != nil && (t.retry.at.IsZero() || attempts < t.retry.attempts) {
		at := time.Now().Add(t.cfg.Backoff(attempts))
		if t.retry.at.IsZero() || at.Before(t.retry.at) {
			t.retry.at = at
		}
		t.retry.attempts = attempts
	}
	return isNew
}

// untilRetry returns the time until retryRefused must be called.
func (t *Table) untilRetry() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retry.at.IsZero() {
		return time.Hour
	}
	return max(0, time.Until(t.retry.at))
}

// retryRefused requests the refused wants again if their time has come.
func (t *Table) retryRefused() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil || t.retry.at.IsZero() || time.Now().Before(t.retry.at) {
		return
	}
	t.retry = retry{}
	for item := range t.entries.All() {
		e, due := item.Value, false
		for _, w := range e.want {
			if w != nil && w.refused.again {
				w.settled, w.refused.again, due = false, false, true
			}
		}
		if due {
			t.enqueueLocked(e)
		}
	}
	t.wake.Set()
}
