package client

import "time"

// NoGrace, as ReceivingConfig.UnhandledGrace, disables the wait of messages for a handler.
const NoGrace time.Duration = -1

// SetAsideConfig limits the list of set-aside messages, see [Client.SetAside].
type SetAsideConfig struct {
	Disabled    bool  // no list: messages are refused instead; a list requires Config.Dir
	MaxMessages int   // limit of messages; default 10,000
	MaxBytes    int64 // limit of their bytes; default 64 MiB; one packet of MaximumPacketSize always fits
}
