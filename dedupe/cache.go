package dedupe

import (
	"context"
	"fmt"
	"time"
)

// Cache records which messages have been handled. Each key has at most one claim at a time. Only a
// committed claim makes the key a duplicate.
//
// A claim belongs to an owner, which is the name of the client or process that handles the message.
// The claim holds for a lease. The owner renews the lease while the handler runs. After the lease
// has ended, the next Begin of any owner takes the key over. Commit, Renew and Abort of the earlier
// claim then return [*ClaimLostError].
//
// Implementations are safe for concurrent use, also by several processes that share the storage. A
// cache that can serve several claims in one round trip may implement further interfaces for that;
// callers check for them by type assertion.
//
// If ctx ends first, a call returns its cause or an error that wraps ctx.Err().
type Cache interface {
	// Begin claims key for owner, unless it is claimed or committed. The Verdict is one of:
	//
	//	Fresh      the caller holds the returned claim: call Commit or Abort exactly once
	//	InFlight   another caller holds the returned claim: call Wait, then Begin again
	//	Duplicate  the key was committed; the returned claim is zero
	//
	// Of any number of concurrent calls with one key, exactly one returns Fresh. If err is not nil,
	// the caller holds no claim and must neither handle nor acknowledge the message. If the reply
	// of the storage was lost, the key may be claimed until the lease ends.
	Begin(ctx context.Context, key, owner string) (Claim, Verdict, error)
	// Renew extends the lease of a claim and returns the claim with its new Expires. A claim whose
	// Expires is zero needs no renewal. Renew also succeeds after the lease has ended, unless the
	// key was taken over.
	Renew(ctx context.Context, c Claim) (Claim, error)
	// Commit records that the message was handled. After it returns nil, the key is a Duplicate for
	// as long as the implementation keeps it. If the claim is committed already, Commit returns
	// nil. Commit also succeeds after the lease has ended, unless the key was taken over. The error
	// is then [*ClaimLostError], and another owner handles or has handled the message.
	//
	// After any other error, the commit may not be recorded, and the message may be handled again
	// after a restart. The caller should acknowledge the message nevertheless.
	Commit(ctx context.Context, c Claim) error
	// Abort releases a claim whose message was not handled, so that the next Begin is Fresh. Abort
	// never undoes a Commit. It returns nil if the claim has already ended, and [*ClaimLostError]
	// if another claim holds or has committed the key.
	Abort(ctx context.Context, c Claim) error
	// Wait blocks until c may no longer hold its key: c was committed or aborted, its lease has
	// ended, or the key was taken over. Pass the claim that Begin returned with InFlight, and then
	// call Begin again.
	Wait(ctx context.Context, c Claim) error
	// Stats returns the counters of this cache. It does not wait for remote storage.
	Stats() Stats
	// Close ends the claims of this cache, wakes the callers of Wait and frees all resources. A
	// second Close returns nil. All other later calls except Stats return [ErrClosed].
	Close() error
}

// Claim identifies one attempt to handle the message of a key. It can be copied and sent to another
// process. The zero Claim holds no key.
type Claim struct {
	Key, Owner string
	// Token is the fencing token. It is greater than that of every earlier claim of the same key,
	// including the claims of earlier processes. A database can reject a write whose token is lower
	// than one it has seen. This locks out an owner that was paused and continues after its lease
	// has ended. Token fits an int64 and is not 0.
	Token uint64
	// Expires is the end of the lease, unless it is renewed, by the clock of this process. Zero
	// means that the claim holds until Commit, Abort or Close.
	Expires time.Time
}

// Verdict is the result of Begin.
type Verdict uint8

const (
	// Fresh means that the caller holds the claim and must handle the message.
	Fresh Verdict = iota + 1
	// InFlight means that another claim holds the key. It is unknown whether the message will be
	// handled, so the caller must not acknowledge it yet.
	InFlight
	// Duplicate means that the key was committed. The caller acknowledges the message without
	// handling it.
	Duplicate
)

// String returns the name of the verdict in lower case.
func (v Verdict) String() string {
	if v < Fresh || v > Duplicate {
		return fmt.Sprintf("verdict(%d)", uint8(v))
	}
	return [...]string{Fresh: "fresh", InFlight: "in flight", Duplicate: "duplicate"}[v]
}

// Stats are counters since the cache was opened. Size, Claims, Bytes and LogBytes are present
// values.
type Stats struct {
	Size   int   // committed keys
	Claims int   // claims in flight
	Bytes  int64 // total length of the committed keys

	Fresh      uint64 // Begin returned Fresh
	Duplicates uint64 // Begin returned Duplicate
	InFlight   uint64 // Begin returned InFlight
	Refused    uint64 // Begin returned InFlightError
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
	LogBytes     int64  // File: size of the log
	AsideRefused uint64 // File: damaged logs that could not be copied to path + ".corrupt"
}

// MaxKeyBytes is the maximum length of a key. It is that of a string in MQTT [MQTT-1.5.4-1].
const MaxKeyBytes = 65_535
