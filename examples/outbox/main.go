// Outbox shows and repairs the folder in which a client stores messages (client.Config.Dir, or
// the folder of any persistence.Log).
//
//	go run ./examples/outbox -dir DIR                   shows the totals, streams and files
//	go run ./examples/outbox -dir DIR list              lists the messages, one per line
//	go run ./examples/outbox -dir DIR count             counts the messages by state
//	go run ./examples/outbox -dir DIR show SEQ|ID       shows one message and its packet
//	go run ./examples/outbox -dir DIR export            prints the messages as JSON lines
//	go run ./examples/outbox -dir DIR verify            reports damage, and the lost messages
//	go run ./examples/outbox -dir DIR repair -yes       repairs the log
//	go run ./examples/outbox -dir DIR newidentity -yes  declares that the folder is a copy
//
// list, count and export take these flags: -state pending|deferred|released|dead|done|all,
// -topic FILTER (an MQTT topic filter) and -limit N. If verify finds damage, the exit status is
// 1. If a command fails, the exit status is 2.
//
// Use newidentity for a copy of a folder before you use it beside the original. The client
// detects most copies itself, but not for example the snapshot of a disk. newidentity begins a
// new epoch and makes the session void. With -drop, the pending messages of the copy end as
// dropped. Without -drop, the original and the copy both deliver them.
//
// Only repair and newidentity change the folder. All other commands are safe on a damaged folder,
// on a read-only medium, and while a client uses the folder. To see it work, publish while the
// broker is stopped: the messages are pending. Start the broker again: they are delivered. End
// the client with kill -9 meanwhile: the messages are still there. Change a byte in a segment:
// verify names the damaged place and the lost messages.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mooring-mqtt/mooring/persistence"
	"github.com/mooring-mqtt/mooring/persistence/inspect"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, time.Now())) }

var verbs = map[string]func(*tool) (code int, err error){
	"":       (*tool).summary,
	"list":   (*tool).list,
	"count":  (*tool).count,
	"show":   (*tool).show,
	"export": (*tool).export,
	"verify": (*tool).verify,
	"repair": (*tool).repair,

	"newidentity": (*tool).newIdentity,
}

func run(args []string, out, problems io.Writer, now time.Time) int {
	t := &tool{now: now, out: out}
	code, err := t.do(args, problems)
	if err == flag.ErrHelp {
		return exitFailed
	}
	if err != nil {
		fmt.Fprintln(problems, "outbox:", err)
	}
	return code
}

func (t *tool) do(args []string, problems io.Writer) (code int, err error) {
	flags := flag.NewFlagSet("outbox", flag.ContinueOnError)
	flags.SetOutput(problems)
	flags.StringVar(&t.dir, "dir", "", "folder of the store")
	flags.StringVar(&t.state, "state", "", "state of the messages: pending, deferred, released, dead, done or all (default: pending for list, all for count and export)")
	flags.StringVar(&t.topic, "topic", "", "topic filter that the messages must match")
	flags.IntVar(&t.limit, "limit", 0, "maximum number of messages; 0: no maximum")
	flags.BoolVar(&t.yes, "yes", false, "repair, newidentity: confirm the change")
	flags.BoolVar(&t.drop, "drop", false, "newidentity: drop the pending messages of the copy")
	flags.Usage = func() {
		fmt.Fprintln(problems, "usage: outbox -dir DIR [list | count | show SEQ|MESSAGE-ID | export | verify | repair | newidentity]")
		flags.PrintDefaults()
	}
	// Flags may be before and after the command.
	for rest := args; ; {
		if flags.Parse(rest) != nil {
			return exitFailed, flag.ErrHelp // Parse has printed the error
		}
		if rest = flags.Args(); len(rest) == 0 {
			break
		}
		t.args, rest = append(t.args, rest[0]), rest[1:]
	}
	verb := ""
	if len(t.args) > 0 {
		verb, t.args = t.args[0], t.args[1:]
	}
	do, known := verbs[verb]
	switch {
	case !known:
		return exitFailed, fmt.Errorf("unknown command %q: use list, count, show, export, verify, repair or newidentity", verb)
	case t.dir == "":
		return exitFailed, fmt.Errorf("no folder given: name it with -dir")
	case verb != "show" && len(t.args) > 0:
		return exitFailed, fmt.Errorf("unexpected argument %q: %s takes only flags", strings.Join(t.args, " "), verb)
	}
	if t.in, err = inspect.Open(t.dir, persistence.Options{}); err != nil {
		return exitFailed, err
	}
	defer t.in.Close()
	if code, err = do(t); err != nil {
		code = exitFailed
	}
	return code, err
}
