package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// StoreFailed reports an error of the store or of the dedupe cache.
type StoreFailed struct{ Err error }

// StoreRenewed reports, after Start, that the store began a new epoch when it was opened. New
// messages are numbered in the new epoch, so receivers do not mistake them for duplicates.
//
// If Cause.Copied, the store is a copy of another one or was restored from a copy. The client then
// drops the session in the store and adopts one that the server has (SessionAdopted). It publishes
// the pending messages under the same message IDs, even if the original has published them. A copy
// that is used beside the original needs its own ClientID.
type StoreRenewed struct {
	Cause persistence.Renewal
	Epoch uint64
}

// StoreDegraded reports that the disk refuses writes to Config.Dir. At QoS 1 and 2, Publish returns
// a *persistence.DegradedError, or blocks with StoreConfig.WhenFull Block. The client still sends
// pending messages: all of QoS 1, and those of QoS 2 that need no write first. The store retries by
// itself.
type StoreDegraded struct{ Err error }

// StoreRecovered reports that the disk accepts writes again.
type StoreRecovered struct{ After time.Duration }

// StoreDamaged reports a damaged place in the log in Config.Dir. The records around it are still
// used.
type StoreDamaged struct{ persistence.Corruption }

func (StoreFailed) event()    {}
func (StoreRenewed) event()   {}
func (StoreDamaged) event()   {}
func (StoreDegraded) event()  {}
func (StoreRecovered) event() {}
