// Package cure ends exchanges that the server still holds although the client has completed or
// forgotten them.
//
// Some servers restore such exchanges after a crash and count them against their own Receive
// Maximum. They then refuse QoS 2 messages. When that happens in a resumed session, the client
// sends PUBREL for packet identifiers that it has used and that no message uses now. It starts with
// the most recent ones. It purges more each time the server still refuses messages while only a
// small part of the Receive Maximum is in flight. The identifiers follow from the message numbers,
// so this also works after the process was killed. If nothing helps, Stuck requests a new session.
// See ADR 0064.
//
// If a store has lost messages that were sent, it assigns their identifiers to other messages. Then
// All purges every identifier first. See ADR 0065.
package cure
