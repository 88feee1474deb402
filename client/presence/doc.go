// Package presence knows who is there.
//
// [Status] is what a device says of itself on its retained status topic, as a
// payload: [Parse] reads it, [Status.Append] writes it. Plain "online" and
// "offline" are read too.
//
// [Tracker] makes of such payloads what is known of each device: its [State],
// since when, how often it came and went. It says which words count, what may be
// believed while one's own link is down, and what changed. client.WatchStatus
// feeds one from a connection; where the payloads come from elsewhere, feed it
// yourself.
//
// The package holds no connection and starts no goroutine.
package presence
