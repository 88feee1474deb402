// Package cure ends exchanges that the server holds and the client has completed, or does not know any more.
//
// Some servers remember such exchanges after a crash, and count them against the Receive Maximum that
// they announce, so that they refuse QoS 2 messages. When that happens in a resumed session, the client
// sends PUBREL for the packet identifiers that it has used and that no message has: the last ones at
// first, and more each time that the server goes on refusing with a small part of its Receive Maximum in
// flight. All of it follows from the numbers of the messages, so it also works after the process was
// killed. If nothing helps, Stuck asks for a new session. See ADR 0064.
//
// A store that has lost messages which were sent gives their identifiers to others: All purges every
// identifier first. See ADR 0065.
package cure
