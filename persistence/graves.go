package persistence

import (
	"cmp"
	"slices"
)

// graves are the dead letters that are kept, by sequence.
type graves []grave

type grave struct {
	seq    uint64
	reason byte
}

func (g graves) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(g, seq, func(e grave, seq uint64) int { return cmp.Compare(e.seq, seq) })
}

func (g *graves) add(seq uint64, reason byte) {
	if i, known := g.find(seq); !known {
		*g = slices.Insert(*g, i, grave{seq, reason})
	}
}

func (g *graves) remove(seq uint64) {
	switch i, known := g.find(seq); {
	case known && i == 0: // the usual one, without moving all others
		*g = (*g)[1:]
	case known:
		*g = slices.Delete(*g, i, i+1)
	}
}

// DeadLetters implements [DeadLetters].
func (l *Log) DeadLetters(yield func(e *Entry, reason byte) bool) error {
	l.mu.Lock()
	kept := slices.Clone(l.ledger.graves)
	err := l.usable()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	var e Entry
	for _, g := range kept {
		ok, err := l.read(func() uint64 {
			if r := l.catalog.find(g.seq); !r.ok() || r.state() != stateDead {
				return 0
			}
			return g.seq
		}, &e)
		if err != nil {
			return err
		}
		if ok && !yield(&e, g.reason) {
			return nil
		}
	}
	return nil
}

// Discard implements [DeadLetters].
func (l *Log) Discard(seq uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.ledger.checkSeq(seq); err != nil {
		return err
	}
	l.discard(seq)
	return nil
}

func (l *Log) discard(seq uint64) {
	r := l.find(seq)
	if !r.ok() || r.state() != stateDead {
		return
	}
	l.ledger.unbury(seq, int(r.loc().size))
	r.set(stateDone)
	r.x.emptied = l.cur.id
	l.cur.buf = appendDone(l.cur.buf, seq, Result{Kind: discarded}, 0)
	l.noted()
}

// bury keeps a dead letter, and gives up the oldest when there are too many.
func (l *Log) bury(seq uint64, size int, reason byte) {
	l.ledger.bury(seq, size, reason)
	l.boundGraves()
}

func (l *Log) boundGraves() {
	for len(l.ledger.graves) > max(l.o.Retention.MaxDeadLetters, 0) {
		l.discard(l.ledger.graves[0].seq)
	}
}
