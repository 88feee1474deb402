package dedupe

import (
	"cmp"
	"fmt"
	"time"
)

// Options configure a cache. Zero means the default.
type Options struct {
	// Capacity is the maximum number of committed keys. At the limit, the oldest key is dropped. It
	// should exceed the number of messages that can be redelivered after an outage, which is the
	// message rate times the longest outage. Default: 65,536.
	Capacity int
	// MaxBytes limits the total length of the committed keys, in the same way as Capacity. It also
	// limits the total length of the claimed keys, in the same way as MaxInFlight. It matters
	// because publishers choose the keys. Default: 128 bytes times Capacity.
	MaxBytes int64
	// MaxInFlight limits the number of claims in flight. At the limit, Begin returns
	// [*InFlightError]. Default: 65,535, the number of MQTT packet identifiers.
	MaxInFlight int
	// TTL is how long a committed key is kept, by the monotonic clock. Default: 1 h. If it is
	// negative, keys do not expire and only Capacity and MaxBytes limit them.
	TTL time.Duration
	// Lease is how long a claim holds without renewal. Default: 0 for Memory and File: claims hold
	// until Commit, Abort or Close, because they end with the process anyway. Caches for several
	// processes have other defaults.
	Lease time.Duration
	// OnEvict is called for each key that is dropped. It may call the cache. Default: none.
	OnEvict func(key string, why Reason)
	// Sync selects when [File] calls fsync. Default: [SyncEach]. Memory ignores it.
	Sync Sync
}

// Reason is the reason why a committed key was dropped.
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

// Sync selects when a File makes commits durable.
type Sync uint8

const (
	// SyncEach makes Commit return after fsync, so no committed key is lost, even in a power
	// failure. Concurrent commits share one fsync.
	SyncEach Sync = iota
	// SyncNever makes Commit return when the operating system has the data. If the process is
	// killed, no key is lost. A power failure loses the keys of about the last 5 to 30 seconds, so
	// their messages can be handled twice.
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
