// Package refusals holds the tests of what a client does after each reason code with which a server
// refuses or ends something. A scripted server refuses always, for two seconds, or once, while 500
// messages wait. The tests write their sections of docs/refusals.md.
package refusals
