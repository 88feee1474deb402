package persistencetest

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/mooring-mqtt/mooring/persistence"
)

// Open creates an empty store with these options. It also returns a function reopen. This function
// closes the store and opens it again with its state, like a restart of the application. The store
// must apply o.Limits. It may ignore the other options.
type Open func(t *testing.T, o persistence.Options) (store persistence.Store, reopen func() persistence.Store)

// Run tests the stores that open returns. Each test is a subtest. If the store does not implement
// the optional interface [persistence.Receipts] or [persistence.DeadLetters], Run skips the
// subtests for this interface.
func Run(t *testing.T, open Open) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Open)
	}{
		{"Order", testOrder},
		{"Fields", testFields},
		{"PacketIsCopied", testPacketIsCopied},
		{"Done", testDone},
		{"Released", testReleased},
		{"ReleaseOrder", testReleaseOrder},
		{"Deferred", testDeferred},
		{"SetSent", testSetSent},
		{"Identifiers", testIdentifiers},
		{"ResetSession", testResetSession},
		{"Streams", testStreams},
		{"Epoch", testEpoch},
		{"Limits", testLimits},
		{"Misuse", testMisuse},
		{"Closed", testClosed},
		{"Concurrent", testConcurrent},
		{"CloseWhileAppending", testCloseWhileAppending},
		{"DropNewest", testDropNewest},
		{"DropOldestBytes", testDropOldestBytes},
		{"DropOldestPriority", testDropOldestPriority},
		{"Receipts", testReceipts},
		{"DeadLetters", testDeadLetters},
		{"ReceiptAge", testReceiptAge},
		{"Model", testModel},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open) })
	}
}

// message returns a message whose packet contains n.
func message(n uint64, size int) *persistence.Message {
	m := &persistence.Message{Packet: make([]byte, max(size, 8))}
	if n%2 == 0 { // the others keep the default
		m.OnSessionLost = persistence.SessionLostPolicy(n / 2 % 3)
	}
	binary.BigEndian.PutUint64(m.ID[8:], n)
	binary.BigEndian.PutUint64(m.Packet, n)
	for i := 8; i < len(m.Packet); i++ {
		m.Packet[i] = byte(n) + byte(i)
	}
	return m
}

func appendN(t *testing.T, s persistence.Store, n int) {
	t.Helper()
	from := s.Stats().Accepted
	for i := range uint64(n) {
		seq, err := persistence.Append(s, message(from+i+1, 20))
		if err != nil || seq != from+i+1 {
			t.Fatalf("Append = %d, %v; want sequence %d", seq, err, from+i+1)
		}
	}
}

// drain returns the sequences of the messages that Next returns, and checks the order and the
// content of the messages.
func drain(t *testing.T, s persistence.Store) (seqs []uint64) {
	t.Helper()
	var e persistence.Entry
	for {
		after := e.Seq
		ok, err := s.Next(&persistence.Cursor{after}, &e)
		if err != nil {
			t.Fatalf("Next(%d): %v", after, err)
		}
		if !ok {
			return seqs
		}
		if e.Seq <= after {
			t.Fatalf("Next(%d) = %d", after, e.Seq)
		}
		checkContent(t, &e)
		seqs = append(seqs, e.Seq)
	}
}

func checkContent(t *testing.T, e *persistence.Entry) {
	t.Helper()
	if want := message(e.Seq, len(e.Packet)); !bytes.Equal(e.Packet, want.Packet) || e.ID != want.ID || e.OnSessionLost != want.OnSessionLost {
		t.Fatalf("message %d was changed", e.Seq)
	}
}

func expect[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

func expectList[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s = %v, want %v", what, got, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func acked(t *testing.T, s persistence.Store, seq uint64) {
	t.Helper()
	must(t, s.Done(seq, persistence.Result{Kind: persistence.Acked}))
}

// sum checks that the totals account for all messages, and returns the counters.
func sum(t *testing.T, s persistence.Store) persistence.Stats {
	t.Helper()
	c := s.Stats()
	if c.Accepted != c.Acked+c.Refused+c.Expired+c.Dropped+c.DeadLettered+c.Pending {
		t.Fatalf("the totals are inconsistent: %+v", c)
	}
	return c
}
