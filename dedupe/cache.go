package dedupe

import (
	"context"
	"fmt"
	"time"
)

// Cache records which messages have been handled. Each key has at most one claim at a time. A key
// becomes a duplicate when its claim is committed, and not before.
//
// A claim belongs to an owner, which is the name of the client or process that handles the message.
// A claim is valid for the time of its lease. The owner renews the lease while the handler runs.
// After the lease has ended, the next Begin of any owner takes the key over. Commit, Renew and
// Abort of the earlier claim then return [*ClaimLostError].
//
// Implementations are safe for concurrent use. This includes several processes that share the
// storage. A cache that can process several claims in one round trip may implement additional
// interfaces. Callers detect them by type assertion.
//
// If ctx ends during a call, the call returns the cause of ctx or an error that wraps ctx.Err().
type Cache interface {
	// Begin claims key for owner, unless the key is already claimed or committed. The Verdict is
	// one of:
	//
	//	Fresh      the caller holds the returned claim: call Commit or Abort exactly once
	//	InFlight   another caller holds the returned claim: call Wait, then Begin again
	//	Duplicate  the key was committed; the returned claim is zero
	//
	// When several callers call Begin with one key at the same time, exactly one call returns
	// Fresh. If err is not nil, the caller holds no claim. It must neither handle nor acknowledge
	// the message. If the reply of remote storage was lost, the key may stay claimed until the
	// lease ends.
	Begin(ctx context.Context, key, owner string) (Claim, Verdict, error)
	// Renew extends the lease of a claim and returns the claim with the new value of Expires. A
	// claim whose Expires is zero needs no renewal. Renew also succeeds after the lease has ended,
	// as long as no other claim has taken the key over. If another claim has taken it over, Renew
	// returns [*ClaimLostError].
	Renew(ctx context.Context, c Claim) (Claim, error)
	// Commit records that the message was handled. After Commit returns nil, the key is a Duplicate
	// for as long as the implementation keeps the key. If the claim was already committed, Commit
	// returns nil. Commit also succeeds after the lease has ended, as long as no other claim has
	// taken the key over. If another claim has taken it over, Commit returns [*ClaimLostError]. The
	// owner of the other claim handles the message or has handled it.
	//
	// After any other error, the commit may be missing, and the message may be handled again after
	// a restart. The caller should acknowledge the message in spite of the error.
	Commit(ctx context.Context, c Claim) error
	// Abort ends a claim whose message was not handled. The next Begin with the key then returns
	// Fresh. Abort never undoes a Commit. It returns nil if the claim has already ended. It returns
	// [*ClaimLostError] if another claim holds the key or has committed it.
	Abort(ctx context.Context, c Claim) error
	// Wait blocks while the claim c holds its key. It returns when c is committed or aborted, when
	// the lease of c has ended, or when another claim has taken the key over. Pass the claim that
	// Begin returned with InFlight. When Wait returns nil, call Begin again.
	Wait(ctx context.Context, c Claim) error
	// Stats returns the counters of this cache. It does not wait for remote storage.
	Stats() Stats
	// Close ends the claims of this cache, wakes the callers of Wait and frees all resources. After
	// Close, all methods except Stats and Close return [ErrClosed]. A second Close returns nil.
	Close() error
}

// Claim identifies one attempt to handle the message with a certain key. A Claim can be copied and
// sent to another process. The zero Claim holds no key.
type Claim struct {
	Key, Owner string
	// Token is the fencing token. It is greater than the token of every earlier claim of the same
	// key, including the claims of earlier processes. A database can reject a write if it has
	// already seen a higher token. This locks out an owner that was paused and that continues after
	// its lease has ended. Token fits into an int64 and is not 0.
	Token uint64
	// Expires is the time at which the lease ends if it is not renewed, by the clock of this
	// process. Zero means that the claim is valid until Commit, Abort or Close.
	Expires time.Time
}

// Verdict is the result of Begin.
type Verdict uint8

const (
	// Fresh means that the caller holds the claim and must handle the message.
	Fresh Verdict = iota + 1
	// InFlight means that another claim holds the key. The handler of the other claim may still
	// fail, so the caller must not acknowledge the message yet.
	InFlight
	// Duplicate means that the key was committed. The caller must acknowledge the message without
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

// Stats contains counters, which start at zero when the cache is opened. Size, Claims, Bytes and
// LogBytes are not counters but present values.
type Stats struct {
	Size   int   // number of committed keys
	Claims int   // number of claims in flight
	Bytes  int64 // total length of the committed keys

	Fresh      uint64 // how many times Begin returned Fresh
	Duplicates uint64 // how many times Begin returned Duplicate
	InFlight   uint64 // how many times Begin returned InFlight
	Refused    uint64 // how many times Begin returned InFlightError
	TakenOver  uint64 // how many times Begin took over a key because the lease of its claim had ended
	Committed  uint64 // number of committed claims
	Aborted    uint64 // number of aborted claims
	Lost       uint64 // how many times Commit, Renew or Abort returned ClaimLostError
	Evicted    uint64 // committed keys that were dropped because of Capacity or MaxBytes
	Expired    uint64 // committed keys that were dropped because they were older than TTL

	Recovered    uint64 // File only: keys that were read when the log was opened
	TornBytes    uint64 // File only: bytes of an unfinished record that were removed when the log was opened
	Corrupt      uint64 // File only: damaged ranges that were found when the log was opened
	Syncs        uint64 // File only: number of fsyncs of the log
	Compactions  uint64 // File only: how many times the log was rewritten
	WriteErrors  uint64 // File only: number of failed writes and fsyncs
	LogBytes     int64  // File only: size of the log in bytes
	AsideRefused uint64 // File only: damaged logs that could not be copied to path + ".corrupt"
}

// MaxKeyBytes is the maximum length of a key in bytes. MQTT strings have the same maximum length
// [MQTT-1.5.4-1].
const MaxKeyBytes = 65_535
