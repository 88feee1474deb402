package main

import "time"

// options are the flags, and the times that determine how soon the board shows a failed device.
type options struct {
	addr, broker, user string
	devices            int
	every, runFor      time.Duration
	calm               bool
	seed               uint64

	keepAlive, willDelay, heartbeat, staleAfter time.Duration
}

// maxDevices is the maximum number of devices on the board, simulated or not.
const maxDevices = 10_000

// defaults returns times that are shorter than a real fleet should use (docs/doctor.md:
// keep-alive-short), so that failures become visible soon.
func defaults() options {
	return options{addr: "127.0.0.1:8080", devices: 200, every: time.Second, seed: 1,
		keepAlive: 5 * time.Second, willDelay: 2 * time.Second, heartbeat: 5 * time.Second, staleAfter: 5 * time.Second}
}

// limit is the longest time for which a device may be shown as online after its end
// while the backend is connected.
func (o *options) limit() time.Duration { return o.keepAlive*3/2 + o.willDelay }
