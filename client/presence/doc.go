// Package presence derives the state of devices from the status messages that they publish.
//
//	t := presence.NewTracker(presence.Options{})
//	change, changed := t.Apply(presence.Message{Topic: topic, Payload: payload, At: time.Now()})
//	if changed {
//		fmt.Println(change.Device.Topic, change.Device.State) // devices/pump-7/status online
//	}
//
// [Status] is the content of a device's retained status topic. [Parse] decodes a payload. It also
// accepts plain "online" and "offline". [Status.Append] encodes a Status.
//
// [Tracker] keeps the [State] of each device, the time of its last change, and counters. It decides
// which status messages count, and reports changes. The Tracker also decides which states apply
// while the watcher's link to the server is down. client.WatchStatus uses a Tracker for a
// connection. An application that receives payloads in another way can create its own Tracker.
//
// The package opens no connection and starts no goroutine.
package presence
