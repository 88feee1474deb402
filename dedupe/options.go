package dedupe

import (
	"cmp"
	"fmt"
	"time"
)

// Options sets the limits of a cache. The zero value is usable.
type Options struct {
	// Capacity is the number of committed keys that are kept; beyond it, the oldest
	// is dropped. It should exceed the number of messages that can be repeated after
	// an outage: the message rate times the longest outage. Default 65,536.
	Capacity int
	// MaxBytes limits the length of all committed keys together, in the same way, and that of all
	// claimed keys in the same way as MaxInFlight. Publishers may choose the keys. Default 128 bytes
	// for each key of Capacity.
	MaxBytes int64
	// MaxInFlight limits the claims that are held at the same time; beyond it, Begin
	// returns [*InFlightError]. Default 65,535: all MQTT packet identifiers.
	MaxInFlight int
	// TTL is how long a committed key is kept, on the monotonic clock. Default one
	// hour; negative: keys do not expire, and only Capacity limits them.
	TTL time.Duration
	// Lease is how long a claim holds unless it is renewed. Memory and File: default
	// 0, claims hold until Commit, Abort or Close, because they end with the process
	// anyway. Caches for several processes have a default of their own.
	Lease time.Duration
	// OnEvict is called for each key that is dropped. It may call the cache.
	OnEvict func(key string, why Reason)
	// Sync sets when [File] calls fsync. Default [SyncEach]. Memory ignores it.
	Sync Sync
}

// Reason is why a committed key was dropped.
type Reason uint8

const (
	Capacity Reason = iota + 1 // newer keys exceeded Options.Capacity or MaxBytes
	Age                        // older than Options.TTL
)

// String returns the name of the reason.
func (r Reason) String() string {
	if r < Capacity || r > Age {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return [...]string{Capacity: "capacity", Age: "age"}[r]
}

// Sync is when a File makes commits durable.
type Sync uint8

const (
	// SyncEach makes Commit return after fsync. No committed key is lost, not even in a
	// power failure. Concurrent commits share one fsync.
	SyncEach Sync = iota
	// SyncNever makes Commit return when the operating system has the bytes. A killed
	// process loses no key. A power failure loses those of about the last 5 to 30
	// seconds; their messages can then be handled twice.
	SyncNever
)

func (o Options) withDefaults() Options {
	o.Capacity = cmp.Or(max(o.Capacity, 0), 65_536)
	o.MaxBytes = cmp.Or(max(o.MaxBytes, 0), 128*int64(o.Capacity))
	o.MaxInFlight = cmp.Or(max(o.MaxInFlight, 0), 65_535)
	o.TTL = cmp.Or(o.TTL, time.Hour)
	o.Lease = min(o.Lease, maxClock)
	return o
}
