package refusals

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooring-mqtt/mooring/client"
	"github.com/mooring-mqtt/mooring/internal/wire/control"
	"github.com/mooring-mqtt/mooring/reliability"
)

// The reason codes of CONNACK and DISCONNECT in the specification (tables 3-1 and 3-13), and codes
// that are undefined or belong to other packets.
var (
	connackCodes = []byte{0x01, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F, 0xA3, 0xFF}

	disconnectCodes = []byte{0x00, 0x01, 0x04, 0x7F, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2, 0xA3, 0xFF}
)

// outcome is the outcome for the messages.
type outcome struct {
	took      time.Duration // until the last one was acknowledged
	attempts  int
	pending   uint64
	stopped   bool
	delivered int
	lost      int
}

// bad reports whether a message is lost.
func (o outcome) bad() bool { return o.lost != 0 || o.delivered+int(o.pending) < messages }

func (o outcome) String() string {
	switch {
	case o.lost > 0:
		return fmt.Sprintf("**%d lost**", o.lost)
	case o.stopped:
		return fmt.Sprintf("stops, %d wait", o.pending)
	case o.pending == 0 && o.delivered < messages:
		return fmt.Sprintf("**%d of %d delivered**", o.delivered, messages)
	case o.pending > 0:
		return fmt.Sprintf("keeps trying, %d wait", o.pending)
	}
	return fmt.Sprintf("delivered, %v, %d", (o.took + time.Second - 1).Truncate(time.Second), o.attempts)
}

// settle waits until all messages have ended, the client has stopped, or an hour has passed.
func settle(t *testing.T, s *server, c *client.Client, all []*client.Delivery) (o outcome) {
	t.Helper()
	began := time.Now()
	for limit := time.After(time.Hour); len(all) > 0 && !o.stopped; {
		select {
		case <-all[0].Done():
			if o.stopped = all[0].Outcome().State == client.Abandoned; o.stopped {
				<-c.Done()
			}
			all = all[1:]
			continue
		case <-limit:
		}
		break
	}
	st := c.Stats().Store
	s.mu.Lock()
	defer s.mu.Unlock()
	o.took, o.attempts, o.pending, o.delivered = time.Since(began), s.attempts, st.Pending, len(s.accepted)
	o.lost = messages - int(st.Acked) - int(st.Pending)
	if int(st.Acked) > o.delivered {
		t.Errorf("%d messages are acknowledged and %d have arrived", st.Acked, o.delivered)
	}
	return o
}

// refuseConnect runs a server that refuses connections.
func refuseConnect(t *testing.T, code byte, w when, acceptedBefore bool) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.newClient(t)
		refusing, refused, began := !acceptedBefore, 0, time.Time{}
		s.connack = func() byte {
			if !refusing {
				return 0
			}
			if refused == 0 {
				began = time.Now()
			}
			if !w.now(began, refused) {
				return 0
			}
			refused++
			return code
		}
		if acceptedBefore {
			start(t, c)
			if err := c.AwaitConnection(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			refusing = true
			s.conn.Close()
			synctest.Wait()
		}
		all := publishAll(t, c)
		if !acceptedBefore {
			start(t, c)
		}
		o = settle(t, s, c, all)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return o
}

// endConnection runs a server that ends connections after fifty messages.
func endConnection(t *testing.T, code byte, w when) (o outcome) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		c := s.newClient(t)
		ended, began := 0, time.Time{}
		s.disconnect = func(completed int) *control.Disconnect {
			if ended == 0 {
				began = time.Now()
			}
			if completed < 50 || !w.now(began, ended) {
				return nil
			}
			ended++
			return &control.Disconnect{Reason: code}
		}
		all := publishAll(t, c)
		start(t, c)
		o = settle(t, s, c, all)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return o
}

func start(t *testing.T, c *client.Client) {
	t.Helper()
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestConnect covers each reason code of CONNACK and of DISCONNECT.
func TestConnect(t *testing.T) {
	var mu sync.Mutex
	cells := map[string]outcome{}
	play := func(t *testing.T, key string, f func(t *testing.T) outcome) {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			o := f(t)
			mu.Lock()
			defer mu.Unlock()
			cells[key] = o
		})
	}
	t.Run("cases", func(t *testing.T) {
		for _, w := range whens {
			for _, code := range connackCodes {
				for _, before := range []bool{false, true} {
					play(t, fmt.Sprintf("CONNACK %02X %d %v", code, w, before), func(t *testing.T) outcome { return refuseConnect(t, code, w, before) })
				}
			}
			for _, code := range disconnectCodes {
				play(t, fmt.Sprintf("DISCONNECT %02X %d", code, w), func(t *testing.T) outcome { return endConnection(t, code, w) })
			}
		}
	})
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n\n| CONNACK | new client: always | for 2 s | once | accepted before: always | for 2 s | once |\n|---|---|---|---|---|---|---|\n", connectIntro)
	for _, code := range connackCodes {
		fmt.Fprintf(&text, "| %s |", codeName(code))
		for _, before := range []bool{false, true} {
			for _, w := range whens {
				o := cells[fmt.Sprintf("CONNACK %02X %d %v", code, w, before)]
				fmt.Fprintf(&text, " %v |", o)
				if o.bad() || o.stopped && before || w != always && !o.stopped && o.pending > 0 {
					t.Errorf("CONNACK 0x%02X, accepted before %v, %v: %v", code, before, w, o)
				}
			}
		}
		text.WriteString("\n")
	}
	text.WriteString("\n| DISCONNECT | always | for 2 s | once |\n|---|---|---|---|\n")
	for _, code := range disconnectCodes {
		fmt.Fprintf(&text, "| %s |", codeName(code))
		for _, w := range whens {
			o := cells[fmt.Sprintf("DISCONNECT %02X %d", code, w)]
			fmt.Fprintf(&text, " %v |", o)
			if o.bad() || o.stopped || o.pending > 0 {
				t.Errorf("DISCONNECT 0x%02X, %v: %v", code, w, o)
			}
		}
		text.WriteString("\n")
	}
	section(t, "CONNACK and DISCONNECT", text.String())
}

const connectIntro = `In these tests, 500 messages at QoS 1 and 2 wait in the store, on 5 topics. The client has the default configuration, except that the jitter is fixed at its middle value. In the first table, the server refuses a CONNECT with the reason code. In the second table, the server accepts the connection, and ends it with the reason code after 50 messages. In each test, the server does this in one of three ways: for every connection, only once, or during the 2 s after it first did so.

The first table has three columns for a new client, and three columns for a client that was accepted before. A *new client* was never accepted by a server. A client that was *accepted before* has had a connection with the same settings.

The cells contain these results:

- *Delivered, 5s, 3* means that the server had acknowledged all 500 messages after 5 s, and that the client made three attempts to connect in this time.
- *Stops* means that the client has ended. ` + "`Err`" + ` returns the reason, and the messages wait in the store.
- *Keeps trying* means that the client still tries to connect after an hour.

` + "`Connection.StopOn`" + ` selects the refusals that stop a client; see [adr/0056](adr/0056-select-the-refusals-that-stop-a-client.md).`

// codeName returns a reason code for the first column.
func codeName(code byte) string {
	if strings.HasPrefix(reliability.ReasonName(code), "Unknown") {
		return fmt.Sprintf("0x%02X (undefined)", code)
	}
	return fmt.Sprintf("0x%02X %s", code, reliability.ReasonName(code))
}
