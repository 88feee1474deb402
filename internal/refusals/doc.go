// Package refusals contains the tests of the client's reaction to each reason code with which a
// server refuses a request or ends a connection. A scripted server refuses permanently, for two
// seconds, or once, while 500 messages wait. The tests write their sections of docs/refusals.md.
package refusals
