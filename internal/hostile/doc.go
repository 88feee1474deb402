// Package hostile contains only tests of client.Client. Their server breaks every rule of MQTT 5
// that a client can notice. Whatever it does, the client must not panic, hang or leave goroutines,
// and its memory must stay within a stated bound. Waiting callers get an answer. Accepted messages
// are delivered to the next server that behaves correctly. The client sends the DISCONNECT that
// MQTT requires.
//
// A plain go test takes a few seconds. With -hostile.for, the mixed attack lasts for that time, the
// test makes all 10,000 reconnects, and each attack is made in four ways:
//
//	go test ./internal/hostile -count=1 -v -hostile.for 1m
package hostile
