package client

import "time"

// NoGrace as ReceivingConfig.UnhandledGrace: messages without a handler do not wait.
const NoGrace time.Duration = -1

// SetAsideConfig limits the list of set-aside messages, see [Client.SetAside].
type SetAsideConfig struct {
	Disabled    bool  // no list: such messages are refused; the list exists only with Config.Dir
	MaxMessages int   // default 10,000
	MaxBytes    int64 // default 64 MiB; one packet of MaximumPacketSize always fits
}
