package persistence_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/mooring-mqtt/mooring/persistence"
)

// A message is accepted, the program restarts before it was sent, and the next
// run finds it.
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

// Many callers share one fsync; one caller can do so too, by waiting once for
// several messages.
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
		log.Fatal(err) // none of them is certain to be there
	}
	fmt.Println(last.Seq, "messages,", store.Stats().Syncs-before, "fsync")
	// Output: 100 messages, 1 fsync
}

// A store has limits, and says which one was reached.
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

// A program that numbers its messages asks the store where it was.
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
