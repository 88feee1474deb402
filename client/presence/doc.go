// Package presence derives the state of devices from status messages.
//
// [Status] is what a device publishes on its retained status topic: [Parse] reads
// the payload, [Status.Append] writes it. Plain "online" and "offline" are read too.
//
// [Tracker] keeps what is known of each device: its [State], since when, how often
// it came and went. It decides which status messages count and what holds while
// the own link is down, and reports changes. client.WatchStatus feeds one from a
// connection; an application with another source of payloads feeds its own.
//
// The package holds no connection and starts no goroutine.
package presence
