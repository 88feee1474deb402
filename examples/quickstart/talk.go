package main

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/mooring-mqtt/mooring/client"
)

// The processes talk to their parent in lines on standard output: a word, and
// values. What a process wrote before it was killed can still be read.

var talking sync.Mutex

func tell(word string, values ...any) {
	line := word + " " + strings.TrimSuffix(fmt.Sprintln(values...), "\n") + "\n"
	talking.Lock()
	defer talking.Unlock()
	_, _ = os.Stdout.WriteString(line) // without a parent there is nobody to tell
}

// tellLink reports how the connection fares.
func tellLink(e client.Event) {
	switch e := e.(type) {
	case client.Connected:
		tell("up")
	case client.Disconnected:
		tell("down", e.Err)
	case client.Gap:
		tell("gap", e.Topic, e.From, e.To)
	case client.ConnectFailed, client.Connecting:
	case client.Stopped:
		if e.Err != nil {
			tell("event", fmt.Sprintf("%T %+v", e, e))
		}
	default:
		tell("event", fmt.Sprintf("%T %+v", e, e))
	}
}
