package main

import (
	"fmt"
	"strings"
)

// markdown is docs/will.md. It says what the cases expect and what mosquitto is
// known for; that it is so is what each run of the program and its test check.
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

A client gives the server its Will Message with CONNECT, and the server publishes it when the client is gone: at once, after the Will Delay Interval, or not at all if the client said DISCONNECT 0x00 or came back in time. Each case below is played by ` + "`go run ./examples/will`" + `, which prints this table with what came and when; ` + "`-case NAME`" + ` plays one of them and tells what happens, step by step. The client with the will is mooring's, with a link that breaks; where it would not do what the case needs, it is a raw one.

| | |
|---|---|
| run it | ` + "`go run ./examples/will`" + `, on the in-process broker and on mosquitto if it is installed; ` + "`-broker mqtt://host:1883`" + ` for another one |
| tests | ` + "`go test ./examples/will`" + `, which also plays the cases on brokers that were broken on purpose, and wants that to be noticed |
| time | counted from just before the end of the connection. No will may come early. In-process, 1 s late is wrong |

## The cases

✓ as MQTT 5 says. ◐ departs from it as the note says; the rest of the case is right. In-process is mqtttest, this module's own; mosquitto is version 2.0.11.

| case | expected | statement | in-process | mosquitto |
|---|---|---|---|---|
`
