package dedupe_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mooring-mqtt/mooring/dedupe"
)

// The three verbs around a handler that fails the first time.
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
	receive := func(id, payload string) {
		v, err := cache.Begin(id)
		if err != nil {
			fmt.Println(err)
			return
		}
		if v != dedupe.Fresh {
			fmt.Println(v, "- not handled")
			return
		}
		if err := handle(payload); err != nil {
			fmt.Println("failed:", err)
			cache.Abort(id)
			return
		}
		if err := cache.Commit(id); err != nil {
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
		v, _ := cache.Begin("0192f0")
		fmt.Println(v)
		if v == dedupe.Fresh {
			cache.Commit("0192f0")
		}
		cache.Close()
	}
	// Output:
	// fresh
	// duplicate
}

// ledger is an application's own store: payments, one line each. A line holds
// the effect and the message ID, and one write appends it, so there is no moment
// at which one is there without the other. (A real one syncs the file and takes
// care of a torn last line.) With SQL it is a table of IDs written in the
// transaction of the effect.
type ledger struct {
	mu     sync.Mutex
	file   *os.File
	claims map[string]bool // false: claimed, true: committed
	total  int
}

var _ dedupe.Cache = (*ledger)(nil)

func openLedger(path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &ledger{file: f, claims: map[string]bool{}}
	for lines := bufio.NewScanner(f); lines.Scan(); { // the set is rebuilt
		var id string
		var amount int
		fmt.Sscan(lines.Text(), &id, &amount)
		l.claims[id] = true
		l.total += amount
	}
	return l, nil
}

// Pay is the handler: effect and ID in one append.
func (l *ledger) Pay(id string, amount int) error {
	if strings.ContainsAny(id, " \n") {
		return errors.New("bad ID")
	}
	if _, err := fmt.Fprintf(l.file, "%s %d\n", id, amount); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.claims[id] = true
	l.total += amount
	return nil
}

func (l *ledger) Begin(id string) (dedupe.Verdict, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	committed, known := l.claims[id]
	switch {
	case committed:
		return dedupe.Duplicate, nil
	case known:
		return dedupe.InFlight, nil
	}
	l.claims[id] = false
	return dedupe.Fresh, nil
}

// Commit has nothing left to do: Pay wrote the ID.
func (l *ledger) Commit(id string) error { return nil }

func (l *ledger) Abort(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.claims[id] {
		delete(l.claims, id)
	}
	return nil
}

func (l *ledger) Stats() dedupe.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return dedupe.Stats{Size: len(l.claims)}
}

func (l *ledger) Close() error { return l.file.Close() }

// A store of one's own closes the last window: the crash between the effect and
// the commit.
func ExampleCache() {
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "payments")

	books, _ := openLedger(path)
	v, _ := books.Begin("0192f0")
	fmt.Println(v)
	books.Pay("0192f0", 100)
	books.Close() // the process dies before Commit

	books, _ = openLedger(path)
	v, _ = books.Begin("0192f0") // so the broker sends the message again
	fmt.Println(v, "total", books.total)
	books.Close()
	// Output:
	// fresh
	// duplicate total 100
}
