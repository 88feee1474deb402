package dedupe_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// Claim, handle, commit, with a handler that fails the first time.
func Example() {
	cache := dedupe.NewMemory(dedupe.Options{Capacity: 10_000})
	defer cache.Close()

	failing := true
	handle := func(payload string) error {
		if failing {
			failing = false
			return errors.New("valve is stuck")
		}
		fmt.Println("handled", payload)
		return nil
	}
	ctx := context.Background()
	receive := func(id, payload string) {
		claim, verdict, err := cache.Begin(ctx, id, "backend")
		if err != nil {
			fmt.Println(err)
			return
		}
		if verdict != dedupe.Fresh {
			fmt.Println(verdict, "- not handled")
			return
		}
		if err := handle(payload); err != nil {
			fmt.Println("failed:", err)
			cache.Abort(ctx, claim)
			return
		}
		if err := cache.Commit(ctx, claim); err != nil {
			fmt.Println(err)
		}
	}
	for range 3 {
		receive("0192f0", "close valve 1")
	}
	// Output:
	// failed: valve is stuck
	// handled close valve 1
	// duplicate - not handled
}

func ExampleHash() {
	fmt.Println(dedupe.Hash([]byte("plant/1/meter"), []byte("17.3")))
	fmt.Println(dedupe.Hash([]byte("plant/1/meter17"), []byte(".3")))
	// Output:
	// ThkfhVCLheEfM4ymyG6HdfoYGPoosgOiS4Lnn9s8kQE
	// 8scSaWHkALBokwPwJIdvw9bmOFUdsqBDcVEbvCXwo7g
}

func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "dedupe")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "handled")

	for range 2 { // the second time is after a restart
		cache, err := dedupe.OpenFile(path, dedupe.Options{})
		if err != nil {
			panic(err)
		}
		ctx := context.Background()
		claim, verdict, _ := cache.Begin(ctx, "0192f0", "backend")
		fmt.Println(verdict)
		if verdict == dedupe.Fresh {
			cache.Commit(ctx, claim)
		}
		cache.Close()
	}
	// Output:
	// fresh
	// duplicate
}

// ledger is the store of an application. It contains one line for each payment. A line contains the
// effect and the message ID and is appended by one write, so neither can exist without the other. (A
// real ledger would sync the file and handle an unfinished last line.) In an SQL database, the IDs
// would be in a table that is written in the transaction of the effect. In the handler of a client,
// the ID is Message.Claim.Key, because the client passes this key to Begin.
//
// The claims are those of a Memory. Only Begin and Close differ.
type ledger struct {
	*dedupe.Memory

	mu    sync.Mutex
	file  *os.File
	paid  map[string]bool
	total int
}

var _ dedupe.Cache = (*ledger)(nil)

func openLedger(path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &ledger{Memory: dedupe.NewMemory(dedupe.Options{}), file: f, paid: map[string]bool{}}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var id string
		var amount int
		fmt.Sscan(lines.Text(), &id, &amount)
		l.paid[id] = true
		l.total += amount
	}
	return l, nil
}

// Pay is the handler: effect and ID in one append.
func (l *ledger) Pay(id string, amount int) error {
	if strings.ContainsAny(id, " \n") {
		return errors.New("bad ID")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := fmt.Fprintf(l.file, "%s %d\n", id, amount); err != nil {
		return err
	}
	l.paid[id] = true
	l.total += amount
	return nil
}

func (l *ledger) Begin(ctx context.Context, id, owner string) (dedupe.Claim, dedupe.Verdict, error) {
	l.mu.Lock()
	paid := l.paid[id]
	l.mu.Unlock()
	if paid {
		return dedupe.Claim{}, dedupe.Duplicate, nil
	}
	return l.Memory.Begin(ctx, id, owner)
}

func (l *ledger) Close() error { return errors.Join(l.Memory.Close(), l.file.Close()) }

// A cache on the store of the effect also covers a crash between the effect and Commit.
func ExampleCache() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "payments")

	ctx := context.Background()
	books, _ := openLedger(path)
	_, verdict, _ := books.Begin(ctx, "0192f0", "backend")
	fmt.Println(verdict)
	books.Pay("0192f0", 100)
	books.Close() // the process dies before Commit

	books, _ = openLedger(path)
	_, verdict, _ = books.Begin(ctx, "0192f0", "backend") // the broker sends the message again
	fmt.Println(verdict, "total", books.total)
	books.Close()
	// Output:
	// fresh
	// duplicate total 100
}

// A process takes over the messages of a process that was paused. Because of the fencing token,
// writes of the paused process are rejected afterwards.
func ExampleClaim() {
	cache := dedupe.NewMemory(dedupe.Options{Lease: 300 * time.Millisecond})
	defer cache.Close()
	ctx := context.Background()

	var highest uint64 // in the row that the handlers write
	write := func(c dedupe.Claim) {
		if c.Token < highest {
			fmt.Println(c.Owner, "fenced")
			return
		}
		highest = c.Token
		fmt.Println(c.Owner, "writes")
	}

	paused, _, _ := cache.Begin(ctx, "0192f0", "replica-1")
	holder, verdict, _ := cache.Begin(ctx, "0192f0", "replica-2")
	fmt.Println(verdict, "at", holder.Owner)
	cache.Wait(ctx, holder) // replica-1 does not renew its lease
	next, verdict, _ := cache.Begin(ctx, "0192f0", "replica-2")
	fmt.Println(verdict)
	write(next)
	fmt.Println(cache.Commit(ctx, next))
	write(paused)
	fmt.Println(errors.Is(cache.Commit(ctx, paused), dedupe.ErrClaimLost))
	// Output:
	// in flight at replica-1
	// fresh
	// replica-2 writes
	// <nil>
	// replica-1 fenced
	// true
}
