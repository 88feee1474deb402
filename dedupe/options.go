package dedupe

import (
	"cmp"
	"fmt"
	"time"
)

// Options configure a cache. A zero field selects the default.
type Options struct {
	// Capacity is the maximum number of committed keys. At the limit, the cache drops the oldest
	// key. Capacity should exceed the number of messages that the server can redeliver after an
	// outage. This number is the message rate times the duration of the longest outage. Default:
	// 65,536.
	Capacity int
	// MaxBytes limits the total length of the committed keys, in the same way as Capacity. It also
	// limits the total length of the claimed keys, in the same way as MaxInFlight. Without it,
	// publishers could fill the memory with long keys. Default: 128 bytes times Capacity.
	MaxBytes int64
	// MaxInFlight limits the number of claims in flight. At the limit, Begin returns
	// [*InFlightError]. Default: 65,535, which is the number of MQTT packet identifiers.
	MaxInFlight int
	// TTL is how long the cache keeps a committed key. The time is measured by the monotonic clock.
	// If TTL is negative, keys do not expire, and only Capacity and MaxBytes limit them. Default: 1
	// h.
	TTL time.Duration
	// Lease is how long a claim is valid without renewal. Default: 0 for Memory and File. Their
	// claims are valid until Commit, Abort or Close, because all claims end when the process ends.
	// Caches that several processes share have other defaults.
	Lease time.Duration
	// OnEvict is called for each committed key that the cache drops. It may call methods of the
	// cache. Default: nil.
	OnEvict func(key string, why Reason)
	// Sync selects when [File] calls fsync. Default: [SyncEach]. Memory ignores it.
	Sync Sync
}

// Reason is the reason why the cache dropped a committed key.
type Reason uint8

const (
	Capacity Reason = iota + 1 // newer keys exceeded Options.Capacity or Options.MaxBytes
	Age                        // the key was older than Options.TTL
)

// String returns the name of the reason.
func (r Reason) String() string {
	if r < Capacity || r > Age {
		return fmt.Sprintf("reason(%d)", uint8(r))
	}
	return [...]string{Capacity: "capacity", Age: "age"}[r]
}

// Sync selects when a File makes commits durable.
type Sync uint8

const (
	// SyncEach makes Commit return after fsync. No committed key is lost, even in a power failure.
	// Concurrent commits share one fsync.
	SyncEach Sync = iota
	// SyncNever makes Commit return as soon as the operating system has the data. If the process is
	// killed, no key is lost. A power failure can lose the keys of about the last 5 to 30 seconds.
	// The messages with these keys can then be handled twice.
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
