package main

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/mooring-mqtt/mooring/client"
)

// The child processes report to the main process with lines on standard output. Each line has a word
// and values. The main process can also read the lines of a process that was killed.

var reporting sync.Mutex

func report(word string, values ...any) {
	line := word + " " + strings.TrimSuffix(fmt.Sprintln(values...), "\n") + "\n"
	reporting.Lock()
	defer reporting.Unlock()
	_, _ = os.Stdout.WriteString(line) // fails if the main process has ended
}

// reportEvent reports an event of the client.
func reportEvent(e client.Event) {
	switch e := e.(type) {
	case client.Connected:
		report("up")
	case client.Disconnected:
		report("down", e.Err)
	case client.Gap:
		report("gap", e.Topic, e.From, e.To)
	case client.ConnectFailed, client.Connecting:
	case client.Stopped:
		if e.Err != nil {
			report("event", fmt.Sprintf("%T %+v", e, e))
		}
	case client.HandlerFailed:
		report("event", "a handler failed:", e.Err)
	case client.ReceiveBlocked:
		report("event", "all messages wait for the handler of", e.Topic)
	default:
		report("event", fmt.Sprintf("%T %+v", e, e))
	}
}
