package hostile

import (
	"slices"
	"testing"
)

// TestAttacks makes each attack separately, with and without sockets, on two consecutive
// connections. Accepted messages are delivered to the next server that behaves correctly. If there
// is none, all waiting callers get an answer. Without -hostile.for, each attack is made in one of
// the four ways.
func TestAttacks(t *testing.T) {
	for i, a := range slices.Concat(malformed, steps, words, floods, huge, silences) {
		t.Run(a.name, func(t *testing.T) {
			for way := range 4 {
				if *lasts == 0 && way != i%4 {
					continue
				}
				if way < 2 {
					endure(t, &a, way%2 == 0, (*bed).recover)
				} else {
					endure(t, &a, way%2 == 0, (*bed).giveUp)
				}
			}
		})
	}
}

// endure exposes a client to an attack.
func endure(t *testing.T, a *attack, tcp bool, ending func(*bed)) {
	const connections, attempts = 2, 100
	results := make(chan error, connections)
	b := newBed(t, tcp, func(p *peer) {
		err := a.on(p)
		select {
		case results <- err:
		default: // one more connection
		}
	}, a.edit)
	b.start()
	b.subscribe("more")
	b.within("the attack", func() {
		silent := 0
		for range connections {
			err := <-results
			for ; err == errSilent && silent < attempts; silent++ {
				err = <-results
			}
			if err != nil {
				t.Error(err)
			}
			b.sample()
		}
	})
	ending(b)
	bound := a.bound
	if bound == 0 {
		bound = heapBound
	}
	b.end(bound)
}
