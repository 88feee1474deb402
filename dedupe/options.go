package dedupe

import (
	"fmt"
	"time"
)

// Options bounds a cache. The zero value is usable.
type Options struct {
	// Capacity is the number of committed keys kept; when full, the oldest goes.
	// It should exceed what can be sent again after an outage: messages per
	// second times the longest outage. Default 65,536.
	Capacity int

	// MaxInFlight is the number of claims that may be open at once; when full,
	// Begin fails with [*InFlightError]. Claims are never evicted. Default
	// 65,535, the number of MQTT packet identifiers.
	MaxInFlight int

	// TTL is how long a committed key is remembered. It is measured on the
	// monotonic clock: a step of the wall clock changes nothing. Default one
	// hour; negative means for ever (Capacity still holds).
	TTL time.Duration

	// OnEvict, if set, is told of each committed key that is forgotten. It is
	// called without a lock held and may call the cache. A key forgotten for
	// [Capacity] sooner than messages can be repeated is a sign that Capacity is
	// too small.
	OnEvict func(key string, why Reason)

	// Sync says when [File] calls fsync. Default [SyncEach]. Memory ignores it.
	Sync Sync
}

// Reason says why a committed key was forgotten.
type Reason uint8

const (
	Capacity Reason = iota + 1 // pushed out by newer keys
	Age                        // older than Options.TTL
)

// String returns the reason's name.
func (r Reason) String() string {
	switch r {
	case Capacity:
		return "capacity"
	case Age:
		return "age"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Sync says when a File makes commits durable.
type Sync uint8

const (
	// SyncEach: Commit returns after fsync. Nothing that was committed is lost,
	// neither by a killed process nor by a power cut. Commits that come at the
	// same time share one fsync.
	SyncEach Sync = iota
	// SyncNever: Commit returns when the operating system has the bytes. A
	// killed process loses nothing; a power cut or a crash of the system loses
	// what the system had not yet written by itself, commonly the last 5 to 30
	// seconds. The messages of those keys can then have their effect twice.
	SyncNever
)

const (
	defaultCapacity    = 65_536
	defaultMaxInFlight = 65_535
	defaultTTL         = time.Hour
)

func (o Options) withDefaults() Options {
	if o.Capacity <= 0 {
		o.Capacity = defaultCapacity
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = defaultMaxInFlight
	}
	if o.TTL == 0 {
		o.TTL = defaultTTL
	}
	return o
}
