package main

import (
	"fmt"
	"strings"
)

// markdown returns docs/will.md: the expected results and the known departures of mosquitto. Each
// run of the program, and its test, check both.
func markdown() string {
	var b strings.Builder
	b.WriteString(docHead)
	var known notes
	for _, c := range cases {
		departs := "✓"
		var numbers []string
		for _, k := range c.known {
			numbers = append(numbers, fmt.Sprint(known.number(k.name)))
		}
		if len(numbers) > 0 {
			departs = "◐ " + strings.Join(numbers, ", ")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | ✓ | %s |\n", c.name, strings.ReplaceAll(c.expectation(), "|", "\\|"), c.rule, departs)
	}
	b.WriteString("\n### Notes\n\n")
	for i, text := range known {
		fmt.Fprintf(&b, "%d. %s.\n", i+1, strings.ToUpper(text[:1])+text[1:])
	}
	b.WriteString("\n## Why\n")
	for _, c := range cases {
		fmt.Fprintf(&b, "\n**%s.** %s\n", strings.ToUpper(c.name[:1])+c.name[1:], c.why)
	}
	return b.String()
}

const docHead = `# The Will Message, case by case

The command ` + "`go run ./examples/will -markdown`" + ` prints this page. To change the page, edit ` + "`examples/will/cases.go`" + `.

A client sends its Will Message to the server in CONNECT. When the connection has ended, the server publishes the will at once or after the Will Delay Interval. If the client sent DISCONNECT 0x00 or reconnected in time, the server does not publish the will.

` + "`go run ./examples/will`" + ` runs each case below and prints this table with the results and their times. ` + "`-case NAME`" + ` runs one case and prints each step. In most cases, the client with the will is a mooring client, and the link between this client and the broker is cut. Some cases need packets that mooring does not send. They use a raw client, which can send any packet.

| | |
|---|---|
| run it | ` + "`go run ./examples/will`" + ` uses the in-process broker, and mosquitto if it is installed. ` + "`-broker mqtt://host:1883`" + ` selects another broker. |
| tests | ` + "`go test ./examples/will`" + ` also runs the cases with brokers that have deliberate errors. It fails if the cases do not detect these errors. |
| time | Each time starts immediately before the connection ends. A will must not be early. With the in-process broker, a will must be less than 1 s late. |

## The cases

The mark ✓ means that the broker behaves as MQTT 5 requires. The mark ◐ means that the broker differs as the note describes, and that the rest of the case is correct. The in-process broker is mqtttest, which belongs to this module. The version of mosquitto is 2.0.11.

No case covers the end of the broker. mosquitto 2.0.11 publishes all wills at once when it ends after SIGTERM, and ignores the Will Delay Interval. [presence.md](guides/presence.md#limits) describes what watchers of devices then show.

| case | expected | statement | in-process | mosquitto |
|---|---|---|---|---|
`
