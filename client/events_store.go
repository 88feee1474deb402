package client

import (
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
)

// StoreFailed reports an error of the store or of the dedupe cache.
type StoreFailed struct{ Err error }

// StoreRenewed reports, after Start, that the store began a new epoch when it was opened. New messages are
// numbered in it, so receivers take none of them for a repetition. If Cause.Copied, the store
// is a copy of another one, or was restored from a copy: its session is void, so a session that the
// server has is adopted (SessionAdopted), and its pending messages are published, which the original
// may have done too, under the same message IDs. Give a copy that is used beside the original its own ClientID.
type StoreRenewed struct {
	Cause persistence.Renewal
	Epoch uint64
}

// StoreDegraded reports that the disk refuses what is written to Config.Dir. Publish returns
// *persistence.DegradedError at QoS 1 and 2, or waits with StoreConfig.WhenFull: Block. What is pending
// is sent: at QoS 1 all of it, at QoS 2 what needs no write before. The store tries again by itself.
type StoreDegraded struct{ Err error }

// StoreRecovered reports that the disk takes what is written again.
type StoreRecovered struct{ After time.Duration }

// StoreDamaged reports a damaged place in the log in Config.Dir. The records around it are in use.
type StoreDamaged struct{ persistence.Corruption }

func (StoreFailed) event()    {}
func (StoreRenewed) event()   {}
func (StoreDamaged) event()   {}
func (StoreDegraded) event()  {}
func (StoreRecovered) event() {}
