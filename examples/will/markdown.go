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

Written by ` + "`go run ./examples/will -markdown`" + `; change ` + "`examples/will/cases.go`" + `, not this file.

A client sends its Will Message to the server in CONNECT. When the connection has ended, the server publishes the will at once or after the Will Delay Interval. It does not publish it if the client sent DISCONNECT 0x00 or reconnected in time.

` + "`go run ./examples/will`" + ` runs each case below and prints this table with the results and their times. ` + "`-case NAME`" + ` runs one case and prints each step. The client with the will is a mooring client with a link that is cut. Cases that need other behavior use a raw client.

| | |
|---|---|
| run it | ` + "`go run ./examples/will`" + `, with the in-process broker, and with mosquitto if it is installed; ` + "`-broker mqtt://host:1883`" + ` selects another broker |
| tests | ` + "`go test ./examples/will`" + `. It also runs the cases with brokers that have deliberate errors, and requires that the cases detect them |
| time | counted from just before the end of the connection. A will must not be early. With the in-process broker, 1 s late is a failure |

## The cases

✓: as MQTT 5 requires. ◐: differs as the note describes; the rest of the case is correct. In-process is mqtttest, the broker of this module. mosquitto is version 2.0.11.

| case | expected | statement | in-process | mosquitto |
|---|---|---|---|---|
`
