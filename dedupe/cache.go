package dedupe

import (
	"context"
	"fmt"
	"time"
)

// Cache records which messages have been handled. Each key has at most one
// claim at a time, and only a committed claim makes the key a duplicate.
//
// A claim belongs to an owner: a name for the client or process that handles the
// message. It holds for a lease, which the owner renews while the handler runs.
// After the lease has ended, the next Begin of any owner takes the key over; then
// Commit, Renew and Abort of the earlier claim return [*ClaimLostError].
//
// Implementations are safe for concurrent use, by several processes if they
// share the storage. A cache that can serve several claims in one round trip may
// implement further interfaces for that; callers find them by type assertion.
//
// If ctx ends first, a call returns its cause or an error that wraps ctx.Err().
type Cache interface {
	// Begin claims key for owner if nobody has claimed or committed it.
	//
	//	Fresh      the returned claim is held; call Commit or Abort exactly once
	//	InFlight   the returned claim is the holder's; call Wait, then Begin again
	//	Duplicate  the key was committed; the returned claim is zero
	//
	// Of any number of concurrent calls with one key, exactly one returns Fresh. If err
	// is not nil, the caller holds no claim and must neither handle nor acknowledge the
	// message. A claim whose answer was lost ends with its lease.
	Begin(ctx context.Context, key, owner string) (Claim, Verdict, error)
	// Renew extends the lease of a claim and returns the claim with its new
	// Expires. A claim whose Expires is zero needs no renewal. Renew succeeds also
	// after the lease has ended, unless the key was taken over.
	Renew(ctx context.Context, c Claim) (Claim, error)
	// Commit records that the message had its effect. After nil, the key is a Duplicate for as long
	// as the implementation promises. Commit of a claim that is committed already returns nil.
	// Commit succeeds also after the lease has ended, unless the key was taken over: then the error
	// is [*ClaimLostError], and another owner handles or has handled the message.
	//
	// On any other error the effect may be unrecorded, and the message may be
	// handled again after a restart; acknowledge it all the same.
	Commit(ctx context.Context, c Claim) error
	// Abort gives a claim back: the message had no effect, and the next Begin is
	// Fresh. Abort never undoes a Commit. It returns nil if the claim had ended
	// already, and [*ClaimLostError] if another claim has the key.
	Abort(ctx context.Context, c Claim) error
	// Wait blocks until c may no longer hold its key: it was committed or aborted,
	// its lease has ended, or the key was taken over. Pass the claim that Begin
	// returned with InFlight, and call Begin again afterwards.
	Wait(ctx context.Context, c Claim) error
	// Stats returns the counters of this cache. It does not block on remote storage.
	Stats() Stats
	// Close ends the claims of this cache, wakes its waiters and frees its resources.
	// Later calls return [ErrClosed], except Stats, and Close, which returns nil.
	Close() error
}

// Claim identifies one attempt to handle the message of a key. It is a value that can
// be copied and sent to another process. The zero Claim holds nothing.
type Claim struct {
	Key, Owner string
	// Token is the fencing token: greater than that of every earlier claim of the same
	// key, including those of earlier processes. A database that refuses writes with a
	// lower token than it has seen excludes an owner that was paused past its lease. It
	// fits an int64 and is never 0.
	Token uint64
	// Expires is when the lease ends unless it is renewed, on the clock of this
	// process. Zero: the claim holds until Commit, Abort or Close.
	Expires time.Time
}

// Verdict is the answer of Begin.
type Verdict uint8

const (
	// Fresh means that the caller holds the claim and handles the message.
	Fresh Verdict = iota + 1
	// InFlight means that another claim holds the key. The message may or may not
	// have its effect, so it must not be acknowledged yet.
	InFlight
	// Duplicate means that the key was committed: acknowledge, do not handle.
	Duplicate
)

// String returns the name of the verdict in lower case.
func (v Verdict) String() string {
	if v < Fresh || v > Duplicate {
		return fmt.Sprintf("verdict(%d)", uint8(v))
	}
	return [...]string{Fresh: "fresh", InFlight: "in flight", Duplicate: "duplicate"}[v]
}

// Stats counts since the cache was opened. Size and Claims are gauges.
type Stats struct {
	Size   int   // committed keys held now
	Claims int   // claims held now
	Bytes  int64 // length of the committed keys

	Fresh      uint64 // Begin returned Fresh
	Duplicates uint64 // Begin returned Duplicate
	InFlight   uint64 // Begin returned InFlight
	Refused    uint64 // Begin failed because MaxInFlight or MaxBytes was reached
	TakenOver  uint64 // Begin returned Fresh for a key whose earlier lease had ended
	Committed  uint64
	Aborted    uint64
	Lost       uint64 // Commit, Renew or Abort returned ClaimLostError
	Evicted    uint64 // committed keys dropped because Capacity or MaxBytes was reached
	Expired    uint64 // committed keys dropped because they were older than TTL

	Recovered    uint64 // File: keys read when the log was opened
	TornBytes    uint64 // File: bytes of an unfinished record removed when the log was opened
	Corrupt      uint64 // File: damaged ranges found when the log was opened
	Syncs        uint64 // File: fsyncs of the log
	Compactions  uint64 // File: rewrites of the log
	WriteErrors  uint64 // File: failed writes and fsyncs
	LogBytes     int64  // File: size of the log now
	AsideRefused uint64 // File: damaged logs that could not be copied to path + ".corrupt"
}

// MaxKeyBytes is the length limit of a key, as of a string in MQTT [MQTT-1.5.4-1].
const MaxKeyBytes = 65_535
