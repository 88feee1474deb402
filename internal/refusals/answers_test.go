package refusals

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
)

// answerCodes are the reason codes of PUBACK and PUBREC in the specification (tables 3-4 and 3-5),
// and codes that are undefined or belong to other packets.
var answerCodes = []byte{0x10, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x86, 0x87, 0x88, 0x8E, 0x90, 0x91, 0x92, 0x94, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0xA7, 0xFF}

// final are the codes that are about the message itself.
var final = map[byte]bool{0x81: true, 0x82: true, 0x90: true, 0x93: true, 0x94: true, 0x95: true, 0x99: true, 0x9A: true, 0x9B: true}

// giveUp are the codes with which a message that ended connections is given up.
var giveUp = map[byte]bool{0x81: true, 0x82: true, 0x90: true, 0x95: true, 0x99: true, 0x9A: true, 0x9B: true}

// answered is the outcome for the messages on the first topic and on the others.
type answered struct {
	acked, deferred, refused [2]int
	others                   time.Duration // until all messages on the other topics had a result
	all                      time.Duration // until all messages had a result; 0: some are pending
}

// scope defines which messages the server refuses.
type scope int

const (
	everything scope = iota
	oneTopic
)

// settleAnswers waits for the results, at most an hour.
func settleAnswers(t *testing.T, c *client.Client, all []*client.Delivery) (a answered) {
	t.Helper()
	began, limit := time.Now(), time.After(time.Hour)
	count := func(first bool) {
		for n, d := range all {
			if (n%topics == 0) != first {
				continue
			}
			select {
			case <-d.Done():
			case <-limit:
				limit = time.After(0)
			}
		}
	}
	count(false)
	a.others = time.Since(began)
	count(true)
	a.all = time.Since(began)
	for n, d := range all {
		i := min(n%topics, 1)
		switch o := d.Outcome(); o.State {
		case client.Acked:
			a.acked[i]++
		case client.Refused:
			a.refused[i]++
		case client.Pending:
			a.deferred[i]++
			a.all = 0
		default:
			t.Errorf("message %d ended as %v", n, o)
		}
	}
	return a
}

// refuseMessages runs a server that answers with a reason code or ends connections with it.
func refuseMessages(t *testing.T, code byte, ends bool, w when, which scope) (a answered) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.newClient(t)
		refused, began := 0, time.Time{}
		refuse := func(topic string) bool {
			if refused == 0 {
				began = time.Now()
			}
			if which == oneTopic && topic != "t/0" || !w.now(began, refused) {
				return false
			}
			refused++
			return true
		}
		if ends {
			s.end = func(topic string) *control.Disconnect {
				if !refuse(topic) {
					return nil
				}
				return &control.Disconnect{Reason: code}
			}
		} else {
			s.puback = func(topic string, _ byte) byte {
				if !refuse(topic) {
					return 0
				}
				return code
			}
		}
		all := publishAll(t, c)
		start(t, c)
		a = settleAnswers(t, c, all)
		st := c.Stats()
		if sum := st.Store; sum.Accepted != sum.Acked+sum.Refused+sum.Pending || int(sum.Pending) != a.deferred[0]+a.deferred[1] {
			t.Errorf("the sum is wrong: %+v", sum)
		}
		if int(st.Store.Pending) > 0 && st.Deferred.Messages == 0 {
			t.Errorf("%d messages are pending, none is deferred", st.Store.Pending)
		}
		s.mu.Lock()
		for payload, n := range s.accepted {
			if number, _ := strconv.Atoi(payload); n > 1 && !ends && number%2 == 1 { // QoS 2
				t.Errorf("message %s was accepted %d times", payload, n)
			}
		}
		s.mu.Unlock()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return a
}

// String returns the text of a table cell: the outcome of the refused messages.
func (a answered) String() string {
	acked, deferred, refused := a.acked[0]+a.acked[1], a.deferred[0]+a.deferred[1], a.refused[0]+a.refused[1]
	var parts []string
	if acked > 0 {
		took := a.all
		if deferred+refused > 0 {
			took = a.others
		}
		parts = append(parts, fmt.Sprintf("%d delivered %s", acked, within(took)))
	}
	if refused > 0 && deferred > 0 { // some are still deferred
		return strings.Join(append(parts, "the others refused one by one"), ", ")
	}
	if refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", refused))
	}
	if deferred > 0 {
		parts = append(parts, fmt.Sprintf("%d deferred", deferred))
	}
	return strings.Join(parts, ", ")
}

// within rounds a duration, so that the scheduling of goroutines does not change it.
func within(d time.Duration) string {
	for _, limit := range []time.Duration{time.Second, 30 * time.Second, 3 * time.Minute, 10 * time.Minute} {
		if d < limit {
			return fmt.Sprintf("in %v", limit)
		}
	}
	return "late"
}

// lost reports whether a message was given up that could have been delivered, or whether a working
// topic was delayed for longer than a minute.
func (a answered) lost(given bool, which scope) bool {
	total := 0
	for i := range 2 {
		total += a.acked[i] + a.deferred[i] + a.refused[i]
	}
	return total != messages || !given && a.refused != [2]int{} || which == oneTopic && (a.acked[1] != messages*(topics-1)/topics || a.others > 10*time.Minute)
}

// TestAnswers covers each reason code of PUBACK and PUBREC, and of a DISCONNECT that answers a
// PUBLISH.
func TestAnswers(t *testing.T) {
	type column struct {
		name  string
		when  when
		which scope
	}
	columns := []column{{"always", always, everything}, {"for 2 s", twoSeconds, everything}, {"always, one topic", always, oneTopic}, {"for 2 s, one topic", twoSeconds, oneTopic}}
	var mu sync.Mutex
	cells := map[string]answered{}
	ends := append([]byte{silent}, disconnectCodes...)
	t.Run("cases", func(t *testing.T) {
		for _, x := range []struct {
			ends  bool
			codes []byte
		}{{false, answerCodes}, {true, ends}} {
			for _, code := range x.codes {
				for i, col := range columns {
					key := fmt.Sprintf("%v %02X %d", x.ends, code, i)
					t.Run(key, func(t *testing.T) {
						t.Parallel()
						a := refuseMessages(t, code, x.ends, col.when, col.which)
						mu.Lock()
						defer mu.Unlock()
						cells[key] = a
					})
				}
			}
		}
	})
	table := func(title string, ends bool, codes []byte) string {
		var text strings.Builder
		fmt.Fprintf(&text, "| %s |", title)
		for _, col := range columns {
			fmt.Fprintf(&text, " %s |", col.name)
		}
		text.WriteString("\n|---|---|---|---|---|\n")
		for _, code := range codes {
			name := codeName(code)
			if ends && code == silent {
				name = "none: the connection ends"
			}
			fmt.Fprintf(&text, "| %s |", name)
			for i, col := range columns {
				a := cells[fmt.Sprintf("%v %02X %d", ends, code, i)]
				fmt.Fprintf(&text, " %v |", a)
				given := !ends && final[code] || ends && giveUp[code]
				if a.lost(given, col.which) || col.when == twoSeconds && !given && a.deferred != [2]int{} {
					t.Errorf("%s %s, %s: %v (others after %v)", title, name, col.name, a, a.others)
				}
			}
			text.WriteString("\n")
		}
		return text.String()
	}
	section(t, "PUBACK and PUBREC", answersIntro+"\n\n"+table("PUBACK, PUBREC", false, answerCodes))
	section(t, "DISCONNECT over a message", endsIntro+"\n\n"+table("DISCONNECT", true, ends))
}

const answersIntro = `In these tests, the client publishes the same 500 messages as in the tests of CONNECT. The server answers PUBLISH packets with the reason code, either always or for 2 s after the first such answer. It does so for all topics, or for one of the five topics.

The cells contain these results:

- *400 delivered in 30s* means that the server has acknowledged 400 messages within thirty seconds.
- *100 deferred* means that 100 messages are still pending after an hour, and that the client still resends them.
- *100 refused* means that 100 messages have ended as refused.

` + "`Publishing.Refusals`" + ` selects which refusals are final; see [adr/0061](adr/0061-defer-refused-messages.md).`

const endsIntro = `In these tests, the server ends the connection instead of acknowledging a message. It sends a DISCONNECT with the reason code, or no DISCONNECT. The result *the others refused one by one* means that, after an hour, some messages are refused and the others are still deferred. The field ` + "`Publishing.PoisonAttempts`" + ` sets how many connections in a row may end in this way before the client defers the message. If the code concerns the message itself, the client ends the message as refused instead. [adr/0062](adr/0062-defer-messages-that-end-connections.md) gives the reasons.`
