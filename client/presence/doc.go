// Package presence derives the state of devices from the status messages that they publish.
//
//	t := presence.NewTracker(presence.Options{})
//	change, changed := t.Apply(presence.Message{Topic: topic, Payload: payload, At: time.Now()})
//	if changed {
//		fmt.Println(change.Device.Topic, change.Device.State) // devices/pump-7/status online
//	}
//
// [Status] is the content of a device's retained status topic. [Parse] decodes a payload, and
// [Status.Append] encodes it. Parse also accepts plain "online" and "offline".
//
// [Tracker] keeps the [State] of each device, since when it holds, and counters. It decides which
// status messages count and which states apply while the watcher's link is down, and it reports
// changes. client.WatchStatus uses a Tracker for a connection. An application with another source
// of payloads can use its own.
//
// The package opens no connection and starts no goroutine.
package presence
