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
	b.WriteString(docsQueue)
	return b.String()
}

const docsHead = `# Interoperability

The command ` + "`go test ./internal/interop -run TestMatrix -update-docs`" + ` writes this page. To change the page, edit the test.

The test lets every client publish to every client, including itself, through two brokers. A deviation from MQTT 5 fails the test, unless the test expects this deviation. The notes on this page describe the expected deviations.

| | |
|---|---|
| brokers | mqtttest, which belongs to this module, and mosquitto %s |
| clients | mooring, which belongs to this module; %s |
| run it | ` + "`go test ./internal/interop -run TestMatrix`" + `. The command ` + "`.ci/run interop`" + ` runs the same test, and fails if one of the other programs is missing. |
| needs | The test needs mosquitto, Node.js with npm, and Python 3 with paho-mqtt. npm downloads the version of MQTT.js that ` + "`testdata/mqttjs`" + ` names. If a program is missing, the test names it and skips its part. With MOORING_REQUIRE_MOSQUITTO=1 and MOORING_REQUIRE_PEERS=1, the test fails instead. |

## The matrix

The two tables have %d entries. The heading of a column names the publisher, an arrow, and the subscriber. Both are separate clients or processes on the same broker. The broker's Maximum Packet Size is %d bytes. The test runs each row at QoS 0, 1 and 2. In the rows for properties and payloads, the publisher sends each message twice, once unretained and once retained. A later subscription then fetches the retained messages as well. The test compares the topic, QoS, RETAIN, DUP, payload and every property of each message. At the end of a column, it fails if any message has arrived twice. Neither broker uses Topic Aliases for messages to clients. In the row "Topic Alias from server to client", a relay in front of the broker assigns the aliases.

The mark ✓ means that the result conforms to MQTT 5. The mark ◐ means that the result deviates from MQTT 5, or that the client cannot show the result. The number refers to a note.
`

const docsTraits = `
## Other deviations

The other tests of ` + "`internal/interop`" + ` have found that mosquitto deviates from MQTT 5 in the following ways. The tests also check that the guarantees of mooring hold in spite of these deviations.

`

const docsQueue = `
## The queue limit of mosquitto

For each client, mosquitto queues at most ` + "`max_queued_messages`" + ` messages at QoS 1 and 2. The default is 1,000. If a subscriber with a session is offline and its queue is full, mosquitto drops every further message for this subscriber. MQTT 5 allows a server to limit its storage (section 4.1.1), so this page does not count the limit as a deviation. The publisher does not notice the loss, because mosquitto still acknowledges each message with reason code 0x00. mosquitto also drops retained messages beyond the limit when a client subscribes at QoS 1.

Set ` + "`max_queued_messages`" + ` to the largest number of messages that may have to wait for an offline subscriber. The value 0 removes the limit, but the manual of mosquitto does not recommend it. The tests on this page use 0, unless a test needs a limit. If the publisher uses ` + "`Publishing.Sequenced`" + ` and the subscriber uses ` + "`Receiving.Ordering`" + `, the subscriber reports the dropped messages as a gap.
`

// traitTexts describe the traits for readers of the document.
var traitTexts = map[string]string{
	"savesLate":             "mosquitto acknowledges a message before it saves the message on disk. After SIGKILL, the messages that it acknowledged last can be lost [MQTT-4.3.2-4] [MQTT-4.3.3-8]. If `Config.Receiving.Ordering` is set, the receiving client reports these lost messages as a gap",
	"forgetsCleanStarts":    "When mosquitto restarts, it loses every session that began with Clean Start 1 and was not resumed since [MQTT-3.1.2-23]",
	"repeatsComplete":       "After a restart, or after two broken connections in succession, mosquitto resends QoS 2 messages for which it has already sent PUBREL [MQTT-4.3.3-6]. `Config.Receiving.Dedupe` suppresses these duplicates",
	"cutsRefused":           "If `max_queued_messages` is 0, mosquitto ends the connection after it has refused a message. The client reconnects and continues",
	"grantsDenied":          "If the access rules forbid a filter, the SUBACK of mosquitto still grants the filter, but mosquitto delivers no messages for it",
	"exceedsReceiveMaximum": "mosquitto sends more QoS 1 and 2 messages than the client's Receive Maximum allows [MQTT-3.3.4-9]. It does so in each session that it resumes after a restart. The client accepts the messages in this case. In a new session, the client ends the connection with 0x93, and no message is lost",
	"miscountsPackets":      "When mosquitto computes the size of a packet, it omits a part of the fixed header. It therefore accepts packets that exceed its own Maximum Packet Size by up to four bytes. It also sends packets that exceed the client's Maximum Packet Size by one byte [MQTT-3.1.2-24]. A client that checks the size then ends the connection with 0x95. If the session is kept, mosquitto redelivers the message indefinitely. mooring accepts the additional byte",
	"sharesRetained":        "mosquitto sends the retained messages to a new Shared Subscription, although MQTT 5 excludes Shared Subscriptions (section 3.3.1.3)",
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
