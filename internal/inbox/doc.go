// Package inbox takes received messages from the session to their handlers, and returns
// acknowledgements to the session. It is generic over the message type, and does not know topics or
// handlers.
//
// The steps of a message, in the order of inbox.go:
//
//	Push → queue of a worker → route → claim (dedupe) → arrange (order) → handle → commit → acknowledge
//
// A QoS 1 or 2 message is acknowledged exactly once: after it was handled, refused or recognized as
// a duplicate. If the inbox stops before that, the message is not acknowledged, and the server
// sends it again.
package inbox
