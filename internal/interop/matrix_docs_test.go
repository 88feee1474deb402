package interop

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var (
	updateDocs  = flag.Bool("update-docs", false, "TestMatrix writes docs/interop.md")
	interopDocs = filepath.Join("..", "..", "docs", "interop.md")
)

// matrixBrokers are the brokers of the document, in order.
var matrixBrokers = []string{"mqtttest", "mosquitto"}

// document prints a summary. If requested, and if everything was run, it writes docs/interop.md.
func (m *matrix) document(t *testing.T) {
	t.Helper()
	departs := 0
	for _, note := range m.marks {
		if note != "" {
			departs++
		}
	}
	t.Logf("%d entries: %d as MQTT 5 says, %d depart", len(m.marks), len(m.marks)-departs, departs)
	if !*updateDocs {
		return
	}
	if want := len(matrixBrokers) * len(m.parties) * len(m.parties) * len(matrixRows); t.Failed() || len(m.marks) != want {
		t.Errorf("%s stays as it was: %d of %d entries were run, and all have to pass", interopDocs, len(m.marks), want)
		return
	}
	if err := os.WriteFile(interopDocs, []byte(m.text()), 0o644); err != nil {
		t.Error(err)
	}
}

func (m *matrix) text() string {
	var b strings.Builder
	versions := []string{}
	for _, p := range m.parties[1:] {
		versions = append(versions, p.hello)
	}
	fmt.Fprintf(&b, docsHead, m.mosquitto, strings.Join(versions, "; "), len(m.marks), serverMaximum)
	var notes []string
	note := func(text string) string {
		i := slices.Index(notes, text)
		if i < 0 {
			i = len(notes)
			notes = append(notes, text)
		}
		return fmt.Sprint(i + 1)
	}
	for _, broker := range matrixBrokers {
		fmt.Fprintf(&b, "\n### On %s\n\n|", broker)
		var rule strings.Builder
		for _, pub := range m.parties {
			for _, sub := range m.parties {
				fmt.Fprintf(&b, " | %s", column(pub, sub))
				rule.WriteString("---|")
			}
		}
		fmt.Fprintf(&b, " |\n|---|%s\n", &rule)
		for _, row := range matrixRows {
			fmt.Fprintf(&b, "| %s", row.name)
			for _, pub := range m.parties {
				for _, sub := range m.parties {
					if why := m.marks[[3]string{broker, row.name, column(pub, sub)}]; why != "" {
						fmt.Fprintf(&b, " | ◐ %s", note(why))
					} else {
						b.WriteString(" | ✓")
					}
				}
			}
			b.WriteString(" |\n")
		}
	}
	b.WriteString("\n### Notes\n\n")
	for i, text := range notes {
		fmt.Fprintf(&b, "%d. %s.\n", i+1, text)
	}
	b.WriteString(docsTraits)
	for _, name := range traitsOf(&mosquitto{}) {
		fmt.Fprintf(&b, "- %s.\n", traitTexts[name])
	}
	return b.String()
}

const docsHead = `# Interoperability

Written by ` + "`go test ./internal/interop -run TestMatrix -update-docs`" + `; change the test, not this file.

Every client publishes to every other one, through two brokers. What does not do as MQTT 5 says fails the test, unless its row knows about it; then it has a note here.

| | |
|---|---|
| brokers | mqtttest, this module's own; mosquitto %s |
| clients | mooring, this module's; %s |
| run it | ` + "`go test ./internal/interop -run TestMatrix`" + `, or ` + "`.ci/run interop`" + `, with the counterparts required |
| needs | mosquitto; Node.js with npm, which fetches the MQTT.js that ` + "`testdata/mqttjs`" + ` pins; Python 3 with paho-mqtt. What is missing is skipped and named; with MOORING_REQUIRE_MOSQUITTO=1 and MOORING_REQUIRE_PEERS=1 it is a failure |

## The matrix

%d entries. A column is publisher → subscriber, each a process or client of its own on the same broker, whose Maximum Packet Size is %d bytes. All rows go at QoS 0, 1 and 2. Those of properties and of payloads send each message once to be passed on and once retained, and the retained ones are fetched by a later subscription as well. Topic, QoS, RETAIN, DUP, payload and every property of each message are compared, and at the end of a column nothing may have come twice. Neither broker uses Topic Aliases towards clients; in that row a relay in front of it gives them out.

✓ as MQTT 5 says. ◐ departs from it, or the client cannot show it: see the note.
`

const docsTraits = `
## What else departs

mosquitto, as the other tests of ` + "`internal/interop`" + ` found it. mooring's promises hold nevertheless, and the tests say so.

`

// traitTexts describe the traits for readers of the document.
var traitTexts = map[string]string{
	"savesLate":             "Its acknowledgements come before the message is safe on disk: SIGKILL makes it forget the last ones [MQTT-4.3.2-4] [MQTT-4.3.3-8]. What is forgotten after the publisher was told is reported as a gap, with `Config.Receiving.Ordering`",
	"forgetsCleanStarts":    "A session that began with Clean Start 1 and was not resumed since is gone after a restart [MQTT-3.1.2-23]",
	"repeatsComplete":       "After a restart, or two cuts in a row, it sends QoS 2 messages again that it has sent PUBREL for [MQTT-4.3.3-6]. `Config.Receiving.Dedupe` holds them off",
	"cutsRefused":           "With `max_queued_messages 0` it ends the connection behind an acknowledgement that refuses a message. The client connects again and goes on",
	"grantsDenied":          "SUBACK grants a filter that its access rules forbid, and nothing comes",
	"exceedsReceiveMaximum": "It sends more QoS 1 and 2 messages than the client's Receive Maximum allows [MQTT-3.3.4-9]. In a session that it resumes, where it does so after each restart, the client takes them; in a new session it ends the connection with 0x93, and loses nothing",
	"miscountsPackets":      "It counts a packet without a part of its fixed header: it takes one of up to four bytes above its own Maximum Packet Size, and sends one of one byte above the client's [MQTT-3.1.2-24]. A client that looks ends the connection with 0x95, and where the session stays the message comes again, for ever; mooring takes this one byte more",
	"sharesRetained":        "A new Shared Subscription is sent the retained messages (section 3.3.1.3)",
}

// traitsOf returns the names of the traits of a broker.
func traitsOf(b broker) (names []string) {
	v := reflect.ValueOf(b.Traits())
	for i := range v.NumField() {
		if v.Field(i).Bool() {
			names = append(names, v.Type().Field(i).Name)
		}
	}
	return names
}

// TestMatrix_DocumentIsCurrent checks that the document has the rows and columns of the matrix, and
// a line for each trait of mosquitto.
func TestMatrix_DocumentIsCurrent(t *testing.T) {
	text, err := os.ReadFile(interopDocs)
	if err != nil {
		t.Fatal(err)
	}
	const stale = "run go test ./internal/interop -run TestMatrix -update-docs"
	doc := string(text)
	parties := []string{mooring.name, mqttjsName, pahoName}
	for _, broker := range matrixBrokers {
		_, table, found := strings.Cut(doc, "\n### On "+broker+"\n\n")
		if !found {
			t.Errorf("%s has no table for %s; %s", interopDocs, broker, stale)
			continue
		}
		table, _, _ = strings.Cut(table, "\n\n")
		lines := strings.Split(strings.TrimSpace(table), "\n")
		var columns []string
		for _, pub := range parties {
			for _, sub := range parties {
				columns = append(columns, column(party{name: pub}, party{name: sub}))
			}
		}
		if got := cells(lines[0])[1:]; !slices.Equal(got, columns) {
			t.Errorf("%s: the columns for %s are %q, want %q; %s", interopDocs, broker, got, columns, stale)
		}
		var rows, want []string
		for _, line := range lines[2:] {
			rows = append(rows, cells(line)[0])
		}
		for _, row := range matrixRows {
			want = append(want, row.name)
		}
		if !slices.Equal(rows, want) {
			t.Errorf("%s: the rows for %s are %q, want %q; %s", interopDocs, broker, rows, want, stale)
		}
	}
	for _, name := range traitsOf(&mosquitto{}) {
		if line := traitTexts[name]; line == "" || !strings.Contains(doc, "- "+line+".\n") {
			t.Errorf("%s does not have what traitTexts says of %s (%q); %s", interopDocs, name, line, stale)
		}
	}
}

// cells returns the cells of a table line.
func cells(line string) (all []string) {
	for cell := range strings.SplitSeq(strings.Trim(strings.TrimSpace(line), "|"), "|") {
		all = append(all, strings.TrimSpace(cell))
	}
	return all
}
