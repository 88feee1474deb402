// Package presence knows who is there.
//
// [Status] is what a device says of itself on its retained status topic, as a
// payload: [Parse] reads it, [Status.Append] writes it. Plain "online" and
// "offline" are read too.
//
// The package holds no connection and starts no goroutine.
package presence
