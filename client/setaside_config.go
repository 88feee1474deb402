package client

import "time"

// NoGrace, as ReceivingConfig.UnhandledGrace, disables the time for which messages wait for a
// handler.
const NoGrace time.Duration = -1

// SetAsideConfig limits the list of messages that were set aside, see [Client.SetAside].
type SetAsideConfig struct {
	Disabled    bool  // the client has no list and refuses the messages instead; a list requires Config.Dir
	MaxMessages int   // maximum number of messages in the list; default 10,000
	MaxBytes    int64 // maximum bytes of these messages; default 64 MiB; one packet of MaximumPacketSize always fits
}
