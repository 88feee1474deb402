package main

import (
	"bufio"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"
)

// list prints one line per message while it reads them. The columns have a fixed width, so that
// list needs no memory for ten million messages.
func (t *tool) list() (int, error) {
	w := bufio.NewWriter(t.out)
	n := 0
	err := t.each("pending", func(m *message) error {
		if n == 0 {
			fmt.Fprintf(w, "%10s  %-9s  %-6s  %3s  %9s  %8s  %12s  %-36s  %s\n", "SEQ", "STATE", "PRIO", "QOS", "PAYLOAD", "AGE", "EXPIRES", "MESSAGE-ID", "TOPIC")
		}
		n++
		qos, payload := "-", "-"
		if m.decoded {
			qos, payload = fmt.Sprint(m.publish.QoS), size(int64(len(m.publish.Payload)))
		}
		_, err := fmt.Fprintf(w, "%10d  %-9s  %-6s  %3s  %9s  %8s  %12s  %-36s  %s\n",
			m.Seq, m.state(), priorities[m.Priority], qos, payload, t.age(m), t.expiry(m), orDash(uuid(m.ID)), m.topic())
		return err
	})
	more := errors.Is(err, errLimit)
	if err != nil && !more {
		w.Flush()
		return exitFailed, err
	}
	switch {
	case n == 0:
		fmt.Fprintln(w, "no messages")
	case more:
		fmt.Fprintf(w, "the first %s; there are more\n", plural(n, "message", "messages"))
	default:
		fmt.Fprintln(w, plural(n, "message", "messages"))
	}
	return exitOK, w.Flush()
}

var priorities = [...]string{"normal", "high", "urgent"}

func (t *tool) age(m *message) string {
	if m.Accepted.IsZero() {
		return "-"
	}
	return span(t.now.Sub(m.Accepted))
}

func (t *tool) expiry(m *message) string {
	switch left := m.Expires.Sub(t.now); {
	case m.Expires.IsZero():
		return "-"
	case left > 0:
		return "in " + span(left)
	default:
		return span(left) + " ago"
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// count prints the number of messages in each state.
func (t *tool) count() (int, error) {
	type row struct {
		messages, payload int64
		oldest            time.Time
	}
	rows, total := map[string]*row{}, row{}
	err := t.each("all", func(m *message) error {
		r := rows[m.state()]
		if r == nil {
			r = &row{}
			rows[m.state()] = r
		}
		for _, r := range []*row{r, &total} {
			r.messages++
			r.payload += int64(len(m.publish.Payload))
			if !m.Accepted.IsZero() && (r.oldest.IsZero() || m.Accepted.Before(r.oldest)) {
				r.oldest = m.Accepted
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errLimit) {
		return exitFailed, err
	}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "STATE\tMESSAGES\tPAYLOAD\tOLDEST\t")
	print := func(state string, r *row) {
		oldest := "-"
		if !r.oldest.IsZero() {
			oldest = span(t.now.Sub(r.oldest))
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t\n", state, r.messages, size(r.payload), oldest)
	}
	for _, state := range []string{"pending", "deferred", "released", "dead", "acked", "refused", "expired", "dropped", "discarded"} {
		if r := rows[state]; r != nil {
			print(state, r)
		}
	}
	print("total", &total)
	return exitOK, w.Flush()
}
