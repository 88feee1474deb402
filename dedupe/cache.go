package dedupe

import (
	"errors"
	"fmt"
)

// Cache tells messages seen before from fresh ones. Implementations are safe
// for concurrent use: of any number of concurrent Begins with one key, exactly
// one gets Fresh.
type Cache interface {
	// Begin asks about key and, when the answer is [Fresh], claims it: until
	// Commit or Abort every other Begin gets [InFlight]. On an error nothing is
	// claimed, and the message must be neither handled nor acknowledged.
	Begin(key string) (Verdict, error)

	// Commit says that the effect happened. When it returns nil, key is a
	// [Duplicate] as lastingly as the implementation promises. On an error the
	// effect has still happened: within this process key is a Duplicate all the
	// same, but a restart may forget it. Without a claim on key: [ErrNoClaim];
	// for a key committed before: nil.
	Commit(key string) error

	// Abort says that the effect did not happen and gives the claim back.
	// Without a claim on key it does nothing, in particular it never takes a
	// Commit back.
	Abort(key string) error

	// Stats returns a snapshot of the counters.
	Stats() Stats

	// Close frees what the cache holds. Claims in flight are given up. Later
	// calls of the other methods return [ErrClosed]; a second Close returns nil.
	Close() error
}

// Verdict is the answer of Begin.
type Verdict uint8

const (
	// Fresh: go on; you hold the claim and owe a Commit or an Abort.
	Fresh Verdict = iota + 1
	// InFlight: someone holds the claim and has not committed yet. It is not
	// known whether the message will have had its effect, so do not acknowledge.
	InFlight
	// Duplicate: committed before. Acknowledge and do not handle.
	Duplicate
)

// String returns the verdict's name in lower case.
func (v Verdict) String() string {
	switch v {
	case Fresh:
		return "fresh"
	case InFlight:
		return "in flight"
	case Duplicate:
		return "duplicate"
	}
	return fmt.Sprintf("verdict(%d)", uint8(v))
}

// Stats counts since the cache was opened; Size and Claims are gauges.
type Stats struct {
	Size   int // committed keys held now
	Claims int // keys claimed now and not yet committed

	Fresh      uint64 // Begins answered Fresh
	Duplicates uint64 // Begins answered Duplicate
	InFlight   uint64 // Begins answered InFlight
	Refused    uint64 // Begins that failed because too many claims were in flight
	Committed  uint64
	Aborted    uint64
	Evicted    uint64 // committed keys pushed out by newer ones (capacity)
	Expired    uint64 // committed keys that outlived the TTL

	Recovered    uint64 // File: keys read back when it was opened
	TornBytes    uint64 // File: bytes cut off an unfinished tail when it was opened
	Corrupt      uint64 // File: damaged stretches found when it was opened
	Syncs        uint64 // File: calls of fsync on the log
	Compactions  uint64 // File: times the log was rewritten
	WriteErrors  uint64 // File: failed writes and syncs
	LogBytes     int64  // File: size of the log now
	AsideRefused uint64 // File: damaged logs that could not be copied aside
}

// MaxKeyBytes is the longest key, the longest string MQTT can carry
// ([MQTT-1.5.4]: a two byte length).
const MaxKeyBytes = 65_535

// Errors for errors.Is.
var (
	ErrClosed          = errors.New("dedupe: the cache is closed; open a new one")
	ErrNoClaim         = errors.New("dedupe: no claim on this key; call Begin and go on only when it says Fresh")
	ErrEmptyKey        = errors.New("dedupe: the key is empty; use the message ID, or Hash for messages without one")
	ErrKeyTooLong      = errors.New("dedupe: the key is longer than 65,535 bytes; use Hash of it")
	ErrTooManyInFlight = errors.New("dedupe: too many claims in flight; commit or abort some, or raise Options.MaxInFlight")
)

// InFlightError says that Begin would have exceeded Options.MaxInFlight. It
// matches [ErrTooManyInFlight].
type InFlightError struct {
	Limit int
}

// Error says what is full and what to do.
func (e *InFlightError) Error() string {
	return fmt.Sprintf("dedupe: %d claims are in flight, the limit; commit or abort some, or raise Options.MaxInFlight", e.Limit)
}

// Is makes errors.Is(err, ErrTooManyInFlight) true.
func (e *InFlightError) Is(target error) bool { return target == ErrTooManyInFlight }

func checkKey(key string) error {
	switch {
	case key == "":
		return ErrEmptyKey
	case len(key) > MaxKeyBytes:
		return ErrKeyTooLong
	}
	return nil
}
