// Package hostile is tests only: a server that breaks every rule of MQTT 5 that
// a client can notice, against client.Client. Whatever it does, the client does
// not panic, does not hang, leaves no goroutine and keeps its memory within a
// stated bound; who waits gets an answer, what was accepted is delivered to the
// next server that behaves, and the DISCONNECT that MQTT asks for is sent.
//
// A plain go test takes a few seconds. With -hostile.for the mixed attack lasts
// that long, all 10,000 reconnects are made, and each attack is made in four ways:
//
//	go test ./internal/hostile -count=1 -v -hostile.for 1m
package hostile
