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

Every client publishes to every other one, through two brokers. A deviation from MQTT 5 fails the test, unless the row expects it. Expected deviations have a note on this page.

| | |
|---|---|
| brokers | mqtttest, this module's own; mosquitto %s |
| clients | mooring, this module's; %s |
| run it | ` + "`go test ./internal/interop -run TestMatrix`" + `, or ` + "`.ci/run interop`" + `, with the counterparts required |
| needs | mosquitto; Node.js with npm, which downloads the version of MQTT.js in ` + "`testdata/mqttjs`" + `; Python 3 with paho-mqtt. The test names and skips missing programs. With MOORING_REQUIRE_MOSQUITTO=1 and MOORING_REQUIRE_PEERS=1, a missing program is a failure |

## The matrix

%d entries. A column is publisher → subscriber, each a process or client of its own on the same broker, whose Maximum Packet Size is %d bytes. All rows are tested at QoS 0, 1 and 2. The rows for properties and payloads send each message twice: once unretained and once retained. A later subscription fetches the retained messages as well. The test compares topic, QoS, RETAIN, DUP, payload and every property of each message. At the end of a column, no message may have arrived twice. Neither broker uses Topic Aliases for messages to clients. In that row, a relay in front of the broker assigns them.

✓ conforms to MQTT 5. ◐ deviates from it, or the client cannot show it; see the note.
`

const docsTraits = `
## Other deviations

The other tests of ` + "`internal/interop`" + ` have found these deviations of mosquitto. They also check that mooring's guarantees hold nevertheless.

`

// traitTexts describe the traits for readers of the document.
var traitTexts = map[string]string{
	"savesLate":             "It acknowledges a message before the message is saved on disk, so SIGKILL makes it lose the last ones [MQTT-4.3.2-4] [MQTT-4.3.3-8]. With `Config.Receiving.Ordering`, the client reports acknowledged messages that were lost as a gap",
	"forgetsCleanStarts":    "A restart loses a session that began with Clean Start 1 and was not resumed since [MQTT-3.1.2-23]",
	"repeatsComplete":       "After a restart, or two broken connections in succession, it resends QoS 2 messages for which it has sent PUBREL [MQTT-4.3.3-6]. `Config.Receiving.Dedupe` suppresses them",
	"cutsRefused":           "With `max_queued_messages 0` it ends the connection after an acknowledgement that refuses a message. The client reconnects and continues",
	"grantsDenied":          "SUBACK grants a filter that its access rules forbid, but it delivers no messages for it",
	"exceedsReceiveMaximum": "It sends more QoS 1 and 2 messages than the client's Receive Maximum allows [MQTT-3.3.4-9]. In a resumed session, where it does so after each restart, the client accepts them. In a new session the client ends the connection with 0x93, and no message is lost",
	"miscountsPackets":      "It counts packet sizes without part of the fixed header. So it accepts packets of up to four bytes above its own Maximum Packet Size, and sends packets of one byte above the client's [MQTT-3.1.2-24]. A client that checks the size ends the connection with 0x95, and in a kept session the message is redelivered indefinitely. mooring accepts the additional byte",
	"sharesRetained":        "It sends the retained messages to a new Shared Subscription (section 3.3.1.3)",
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
