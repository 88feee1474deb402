// Outbox looks inside the folder where a client keeps what is not acknowledged
// yet (client.Config.Dir, or any persistence.Log).
//
//	go run ./examples/outbox -dir DIR                   what is in there
//	go run ./examples/outbox -dir DIR list              the messages, one a line
//	go run ./examples/outbox -dir DIR count             how many, by what became of them
//	go run ./examples/outbox -dir DIR show SEQ|ID       one message, its packet decoded
//	go run ./examples/outbox -dir DIR export            JSON lines, for other programs
//	go run ./examples/outbox -dir DIR verify            what is damaged, and what it cost
//	go run ./examples/outbox -dir DIR repair -yes       lets the log mend itself
//	go run ./examples/outbox -dir DIR newidentity -yes  declares the folder a copy
//
// list, count and export take -state pending|released|dead|done|all, -topic FILTER
// by MQTT's rules and -limit N. verify ends with 1 when something is damaged;
// whatever cannot be done ends with 2.
//
// newidentity is for a copy that is to be used beside the original, where the system
// does not show that it is one: a new epoch begins, and the session is void. With
// -drop the pending messages of the copy end as dropped; without it both deliver them.
//
// What to watch for: nothing is changed but by repair and newidentity, so it is safe on the
// only copy of a broken device's folder, on a read-only medium, and while the
// program is at work: publish while the broker is away and see the messages wait;
// let it come back and see them go; kill the program with -9 and see that they
// are all still there. Flip a byte in a segment, and verify says which place it is
// and which sequences it cost.
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
	flags.StringVar(&t.dir, "dir", "", "the folder")
	flags.StringVar(&t.state, "state", "", "which messages: pending, deferred, released, dead, done or all; list shows pending ones by default")
	flags.StringVar(&t.topic, "topic", "", "only messages whose topic matches this filter")
	flags.IntVar(&t.limit, "limit", 0, "how many messages at most; 0: all")
	flags.BoolVar(&t.yes, "yes", false, "repair, newidentity: go ahead")
	flags.BoolVar(&t.drop, "drop", false, "newidentity: end the pending messages of the copy as dropped")
	flags.Usage = func() {
		fmt.Fprintln(problems, "usage: outbox -dir DIR [list | count | show SEQ|MESSAGE-ID | export | verify | repair | newidentity]")
		flags.PrintDefaults()
	}
	// Flags may stand before and behind the verb.
	for rest := args; ; {
		if flags.Parse(rest) != nil {
			return exitFailed, flag.ErrHelp // it has said why
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
		return exitFailed, fmt.Errorf("unknown verb %q: use list, count, show, export, verify, repair or newidentity", verb)
	case t.dir == "":
		return exitFailed, fmt.Errorf("which folder? Name it with -dir")
	case verb != "show" && len(t.args) > 0:
		return exitFailed, fmt.Errorf("%q is too much: %s takes flags only", strings.Join(t.args, " "), verb)
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
