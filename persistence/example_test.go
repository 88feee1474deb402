package persistence_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/mooring-mqtt/mooring/persistence"
)

// A message is accepted, and the application restarts before it is sent. The next run finds the
// message.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	store, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		log.Fatal(err)
	}
	seq, err := persistence.Append(store, &persistence.Message{Packet: []byte("a PUBLISH packet")})
	if err != nil {
		log.Fatal(err) // not accepted
	}
	fmt.Println("accepted as", seq)
	store.Close()

	store, err = persistence.Open(dir, persistence.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	var e persistence.Entry
	for {
		ok, err := store.Next(&persistence.Cursor{e.Seq}, &e)
		if err != nil {
			log.Fatal(err)
		}
		if !ok {
			break
		}
		fmt.Printf("boot %d sends %d: %s\n", store.Boot(), e.Seq, e.Packet)
		store.Done(e.Seq, persistence.Result{Kind: persistence.Acked})
	}
	s := store.Stats()
	fmt.Println(s.Accepted, "accepted,", s.Acked, "acked,", s.Pending, "pending")
	// Output:
	// accepted as 1
	// boot 2 sends 1: a PUBLISH packet
	// 1 accepted, 1 acked, 0 pending
}

// Concurrent callers share one fsync. A single caller can do the same: it waits once for several
// messages.
func ExampleLog_Enqueue() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := persistence.Open(dir, persistence.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	before := store.Stats().Syncs
	var last persistence.Ticket
	for i := range 100 {
		last, err = store.Enqueue(context.Background(), &persistence.Message{Packet: fmt.Appendf(nil, "packet %d", i)})
		if err != nil {
			log.Fatal(err)
		}
	}
	if err := store.Wait(context.Background(), last); err != nil {
		log.Fatal(err) // any of them may be missing
	}
	fmt.Println(last.Seq, "messages,", store.Stats().Syncs-before, "fsync")
	// Output: 100 messages, 1 fsync
}

// A FullError names the limit that is reached.
func ExampleNewMemory() {
	store := persistence.NewMemory(persistence.Options{Limits: persistence.Limits{MaxMessages: 1}})
	persistence.Append(store, &persistence.Message{Packet: []byte("first")})
	_, err := persistence.Append(store, &persistence.Message{Packet: []byte("second")})

	var full *persistence.FullError
	if errors.As(err, &full) {
		fmt.Println("full:", full.Limit, full.Max)
	}
	// Output: full: MaxMessages 1
}

// An application that numbers its messages asks the store for the last number.
func ExampleStore_stream() {
	store := persistence.NewMemory(persistence.Options{})
	for range 2 {
		id, last, err := store.Stream("sensors/kitchen")
		if err != nil {
			log.Fatal(err)
		}
		persistence.Append(store, &persistence.Message{Stream: id, StreamSeq: last + 1})
	}
	store = store.Reopen()
	_, last, _ := store.Stream("sensors/kitchen")
	fmt.Println("boot", store.Boot(), "goes on after", last)
	// Output: boot 2 goes on after 2
}
