package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// StoreFailed reports an error of the store or of the dedupe cache.
type StoreFailed struct{ Err error }

// StoreRenewed reports, after Start, that the store began a new epoch when it was opened. The
// sequence numbers of new messages belong to the new epoch, so receivers do not treat new messages
// as duplicates.
//
// If Cause.Copied is true, the store is a copy of another store or was restored from a copy. The
// client then discards the session in the store. If the server has a session, the client resumes it
// (see SessionAdopted). The client publishes the pending messages under the same message IDs, even
// if the original store's client has published them. If a copy and its original are both in use,
// give the copy another ClientID.
type StoreRenewed struct {
	Cause persistence.Renewal
	Epoch uint64
}

// StoreDegraded reports that the disk refuses writes to Config.Dir. At QoS 1 and 2, Publish then
// returns a *persistence.DegradedError. If StoreConfig.WhenFull is Block, Publish blocks instead.
// The client still sends all pending QoS 1 messages, and those pending QoS 2 messages that need no
// write first. The store retries by itself.
type StoreDegraded struct{ Err error }

// StoreRecovered reports that the disk accepts writes again. After is how long the disk refused
// writes.
type StoreRecovered struct{ After time.Duration }

// StoreDamaged reports damaged bytes in the log in Config.Dir. The client still uses the records
// before and after them.
type StoreDamaged struct{ persistence.Corruption }

func (StoreFailed) event()    {}
func (StoreRenewed) event()   {}
func (StoreDamaged) event()   {}
func (StoreDegraded) event()  {}
func (StoreRecovered) event() {}

// SessionAdopted reports that the client resumes a session that the store does not know. Another
// library began the session under this ClientID, or the store was lost. The client has closed the
// connection, and resumes the session at once on the next connection. The client receives the
// messages that wait in the session, even those of subscriptions that it did not make.
//
// Before the client sends stored messages, it ends all QoS 2 exchanges that the server may hold. For
// this, it sends PUBREL for all 65,535 packet identifiers, and the server answers each one with
// PUBCOMP. The traffic is about 260 KB from the client and at least as much from the server. Stored
// messages wait for the last answer, also at QoS 1. If the server does not support QoS 2, the client
// sends none of these packets.
//
// With StrictSession, the client stops instead of resuming the session. CleanStart discards the
// session.
type SessionAdopted struct{ Server string }
